"""Text tokens of titles: WordPiece trained on the catalogue, or a given Hugging Face tokenizer.

Our own tokenizer has the special tokens of the item vocabulary at the same ids 0..4. It splits
Chinese characters one by one (as BERT does), so titles need no spaces. Called by the prepare stage:
`prepared/tokenizer` is a folder that `transformers.AutoTokenizer` opens, `prepared/titles.npy` has
the tokens. Which pieces the vocabulary gets is decided in `wordpiece_training.py`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from recjax.data.vocabulary import CLS, MASK, PAD, SEP, SPECIALS, UNK
from recjax.data.wordpiece_training import train_pieces
from recjax.errors import UserError

_ENCODE_BATCH = 4096  # titles encoded at a time


class TitleTokenizer(Protocol):
    """What `tokenize_titles` needs."""

    @property
    def vocab_size(self) -> int:
        """Token ids in use."""
        ...

    @property
    def pad_id(self) -> int:
        """Id that fills the tail of a title."""
        ...

    @property
    def mask_id(self) -> int | None:
        """Id that stands for a hidden token; None where it has none."""
        ...

    @property
    def special_ids(self) -> Sequence[int]:
        """Ids that stand for no text."""
        ...

    def pieces(self) -> Mapping[str, int]:
        """Returns the id of every token."""
        ...

    def encode_titles(self, titles: Sequence[str], max_len: int) -> list[list[int]]:
        """Returns token ids per title, at most max_len, with its start and end tokens."""
        ...

    def save(self, folder: str | Path) -> None:
        """Writes the tokenizer as a folder that `load_tokenizer` opens."""
        ...


class WordPiece:
    """Our own tokenizer; made by `train_wordpiece`."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @property
    def vocab_size(self) -> int:
        """Token ids in use, specials included."""
        return self._tokenizer.get_vocab_size()

    @property
    def pad_id(self) -> int:
        """Id of [PAD]."""
        return PAD

    @property
    def mask_id(self) -> int | None:
        """Id of [MASK]."""
        return MASK

    @property
    def special_ids(self) -> Sequence[int]:
        """Ids of [PAD], [UNK], [CLS], [SEP], [MASK]."""
        return range(len(SPECIALS))

    def pieces(self) -> Mapping[str, int]:
        """Returns the id of every token."""
        return self._tokenizer.get_vocab()

    def encode_titles(self, titles: Sequence[str], max_len: int) -> list[list[int]]:
        """Returns [CLS] words [SEP] per title, cut to max_len ids with [SEP] kept."""
        encoded = self._tokenizer.encode_batch_fast(list(titles), add_special_tokens=False)
        return [[CLS, *e.ids[: max_len - 2], SEP] for e in encoded]

    def save(self, folder: str | Path) -> None:
        """Writes tokenizer.json and what AutoTokenizer wants beside it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._tokenizer.save(str(folder / "tokenizer.json"))
        names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
        config = dict(zip(names, SPECIALS, strict=True))
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))


class HuggingFaceTokenizer:
    """A tokenizer of transformers, with its own special tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @property
    def vocab_size(self) -> int:
        """Token ids in use, added ones included."""
        return len(self._tokenizer)

    @property
    def pad_id(self) -> int:
        """Id of its padding token; 0 where it has none."""
        return self._tokenizer.pad_token_id or 0

    @property
    def mask_id(self) -> int | None:
        """Id of its mask token; None where it has none."""
        return self._tokenizer.mask_token_id

    @property
    def special_ids(self) -> Sequence[int]:
        """Ids of its special tokens."""
        return self._tokenizer.all_special_ids

    def pieces(self) -> Mapping[str, int]:
        """Returns the id of every token, added ones included."""
        return self._tokenizer.get_vocab()

    def encode_titles(self, titles: Sequence[str], max_len: int) -> list[list[int]]:
        """Returns token ids per title, at most max_len, with its own special tokens."""
        options = {"truncation": True, "max_length": max_len, "return_attention_mask": False}
        return self._tokenizer(list(titles), **options)["input_ids"]

    def save(self, folder: str | Path) -> None:
        """Writes the tokenizer as transformers does."""
        self._tokenizer.save_pretrained(str(folder))


def train_wordpiece(titles: Iterable[str], vocab_size: int) -> WordPiece:
    """Trains WordPiece on titles; the same titles in any order give the same tokenizer.

    Args:
        titles: read once; empty ones are skipped.
        vocab_size: most tokens, the 5 specials included.

    Raises:
        UserError: if there is no text, or vocab_size leaves no room for words.

    Example:
        >>> tokenizer = train_wordpiece(["red shoe", "blue shoe"], vocab_size=60)
        >>> tokenizer.encode_titles(["red shoe"], max_len=4)[0][::3]  # [CLS] red shoe [SEP]
        [2, 3]
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for title in titles:
        if title:
            split = splitter.pre_tokenize_str(normalizer.normalize_str(title))
            words.update(word for word, _ in split)
    if not words:
        raise UserError("the catalogue has no titles to train text tokens on")
    if vocab_size <= len(SPECIALS):
        raise UserError(f"prepare.text.vocab_size must be above {len(SPECIALS)}, got {vocab_size}")
    pieces = [*SPECIALS, *train_pieces(words, vocab_size - len(SPECIALS))]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=SPECIALS[UNK]))
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing((SPECIALS[SEP], SEP), (SPECIALS[CLS], CLS))
    return WordPiece(tokenizer)


def load_tokenizer(folder: str | Path) -> TitleTokenizer:
    """Opens a tokenizer folder: one we saved, or any that transformers knows.

    Raises:
        UserError: if the folder is missing or holds no tokenizer.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"tokenizer folder {folder} is missing")
    own = folder / "tokenizer.json"
    if own.exists():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(own))
        if [tokenizer.token_to_id(name) for name in SPECIALS] == list(range(len(SPECIALS))):
            return WordPiece(tokenizer)
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import AutoTokenizer

    try:
        return HuggingFaceTokenizer(AutoTokenizer.from_pretrained(folder, local_files_only=True))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder} holds no tokenizer that transformers opens: {error}") from error


def tokenize_titles(titles: Sequence[str], tokenizer: TitleTokenizer, max_len: int) -> np.ndarray:
    """Returns int32 [vocab_size, max_len] token ids, one row per item id, padded on the right.

    Args:
        titles: one per item id, specials included; an empty title gives a row of padding.
        tokenizer: ours or one of Hugging Face.
        max_len: tokens per title, start and end tokens included; at least 3.

    Raises:
        UserError: if max_len is below 3.
    """
    if max_len < 3:
        raise UserError(f"prepare.text.max_len must be at least 3, got {max_len}")
    tokens = np.full((len(titles), max_len), tokenizer.pad_id, np.int32)
    filled = [row for row, title in enumerate(titles) if title and title.strip()]
    for start in range(0, len(filled), _ENCODE_BATCH):
        rows = filled[start : start + _ENCODE_BATCH]
        encoded = tokenizer.encode_titles([titles[row] for row in rows], max_len)
        for row, ids in zip(rows, encoded, strict=True):
            tokens[row, : len(ids)] = ids
    return tokens
