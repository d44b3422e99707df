"""Texts for the text objectives beside titles: a user's own file, the log's reviews; token kinds.

Long documents are cut into rows as long as a title, so that all texts of a step have one shape.
Called by `recjax.texts`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recjax.data.splits import TRAIN
from recjax.data.text import TitleTokenizer
from recjax.errors import UserError

SPECIAL, WORD, CONTINUATION = range(3)
_BATCH = 4096  # documents tokenized at a time
_WHOLE = 1 << 30  # tokens; more than any document has


def token_kinds(tokenizer: TitleTokenizer) -> np.ndarray:
    """Returns int32 [W]: what each token id is, `SPECIAL`, `WORD` (its start) or `CONTINUATION`.

    A piece that begins with "##" continues a word, as in WordPiece; in a vocabulary without such
    pieces every token is a word.
    """
    kinds = np.full(tokenizer.vocab_size, SPECIAL, np.int32)
    for piece, number in tokenizer.pieces().items():
        kinds[number] = CONTINUATION if piece.startswith("##") else WORD
    kinds[list(tokenizer.special_ids)] = SPECIAL
    return kinds


def tokenize_corpus(
    documents: Iterable[str], tokenizer: TitleTokenizer, max_len: int
) -> np.ndarray:
    """Returns int32 [N, max_len]: documents cut into rows, padded on the right.

    Every row has the tokenizer's start and end token; empty documents give no row.

    Args:
        documents: read once.
        tokenizer: whose encodings begin with a start token and end with an end token.
        max_len: tokens per row, start and end included.
    """
    rows: list[list[int]] = []
    waiting = iter(documents)
    while batch := list(itertools.islice(waiting, _BATCH)):
        for ids in tokenizer.encode_titles(batch, _WHOLE):
            body, step = ids[1:-1], max_len - 2
            cuts = range(0, len(body), step)
            rows += [[ids[0], *body[cut : cut + step], ids[-1]] for cut in cuts]
    tokens = np.full((len(rows), max_len), tokenizer.pad_id, np.int32)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    return tokens


def read_lines(path: str | Path) -> Iterator[str]:
    """Yields the documents of a text file, one a line, UTF-8.

    Raises:
        UserError: if the file is missing or not UTF-8.
    """
    try:
        with open(path, encoding="utf-8") as file:
            yield from (line.strip() for line in file)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"config.pretrain.text.corpus = {str(path)!r} cannot be read as a UTF-8 text file with "
            f"one document a line: {error}"
        ) from error


def read_reviews(events: str | Path) -> Iterator[str]:
    """Yields the `text` of the events of the training part, from prepared/events.parquet.

    Raises:
        UserError: if the log has no such column.
    """
    with pq.ParquetFile(events) as file:
        if "text" not in file.schema_arrow.names:
            raise UserError(
                "config.pretrain.text.reviews is on, but the log has no text; name its column in "
                "config.data.columns.text and prepare again, or turn reviews off"
            )
        for batch in file.iter_batches(columns=["text", "part"]):
            texts = batch["text"].filter(pc.equal(batch["part"], TRAIN))
            yield from filter(None, texts.to_pylist())
