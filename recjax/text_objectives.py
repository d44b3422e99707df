"""Pretraining objectives that read text: their settings, and the arrays that a step needs of texts.

Texts come from prepared/: the tokens of titles, the tokenizer, and where asked for the log's
reviews and a user's own corpus. The ahead-of-time compile knows their sizes only. Called by
`recjax.objectives`, the experiment and the ahead-of-time compile.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from recjax.data.corpus import read_lines, read_reviews, token_kinds, tokenize_corpus
from recjax.data.text import TitleTokenizer, load_tokenizer
from recjax.data.vocabulary import MASK, PAD
from recjax.errors import UserError
from recjax.models import EncoderConfig, TextConfig
from recjax.recipe import catalogue_loss_of
from recjax.tasks import JointItemText, MaskedText, TextAlignment
from recjax.tasks.encoder_task import EncoderTask


@dataclass(frozen=True)
class Texts:
    """What there is to read.

    Attributes:
        pad_id: token that fills the tail of a text.
        mask_id: token of a hidden word.
        constants: item_tokens int32 [V, L], token_kind int32 [W], and with a corpus corpus_tokens
            int32 [C, L]; arrays, or their shapes.
    """

    pad_id: int
    mask_id: int
    constants: Mapping[str, Any]


NO_TEXTS = Texts(PAD, MASK, {})


def read_texts(config: ConfigDict, prepared: Path, table_rows: int) -> Texts:
    """Reads the texts that the objectives of a config need, `NO_TEXTS` where they need none.

    Args:
        config: complete.
        prepared: folder of the prepare stage.
        table_rows: rows V of the item table; those beyond the catalogue have no title.

    Raises:
        UserError: if the catalogue has no titles, or a corpus is asked for and is not there.
    """
    asking = _asking(config)
    if not asking:
        return NO_TEXTS
    titles = np.load(prepared / "titles.npy")
    if not (prepared / "tokenizer").is_dir():
        raise UserError(
            f"config.pretrain.objectives: {', '.join(asking)} needs item titles and the catalogue "
            "has none; give config.data.catalogue_path a file with the column that "
            "config.data.catalogue_columns.title names, or set the weight to 0"
        )
    tokenizer = load_tokenizer(prepared / "tokenizer")
    if tokenizer.mask_id is None:
        raise UserError(
            f"config.prepare.text.tokenizer = {config.prepare.text.tokenizer!r} has no mask token, "
            f"which {', '.join(asking)} needs; give the folder of a BERT tokenizer"
        )
    beyond = (0, table_rows - len(titles)), (0, 0)
    constants = {
        "item_tokens": np.pad(titles, beyond, constant_values=tokenizer.pad_id),
        "token_kind": token_kinds(tokenizer),
    }
    if _has_corpus(config):
        constants["corpus_tokens"] = _read_corpus(config, prepared, tokenizer, titles.shape[1])
    return Texts(tokenizer.pad_id, tokenizer.mask_id, constants)


def describe_texts(config: ConfigDict, table_rows: int) -> Texts:
    """Returns the texts of a catalogue that is not there, shapes only, by the sizes of a config."""
    if not _asking(config):
        return NO_TEXTS
    length = config.prepare.text.max_len
    shapes = {"item_tokens": (table_rows, length), "token_kind": (config.prepare.text.vocab_size,)}
    if _has_corpus(config):
        shapes["corpus_tokens"] = (config.aot.num_corpus_rows, length)
    return Texts(PAD, MASK, {n: jax.ShapeDtypeStruct(s, np.int32) for n, s in shapes.items()})


def _asking(config: ConfigDict) -> list[str]:
    """The text objectives that are on."""
    return [name for name in TEXT_OBJECTIVES if config.pretrain.objectives[name]]


def _has_corpus(config: ConfigDict) -> bool:
    text = config.pretrain.text
    return bool(text.corpus or text.reviews) and bool(config.pretrain.objectives.masked_text)


def _read_corpus(
    config: ConfigDict, prepared: Path, tokenizer: TitleTokenizer, max_len: int
) -> np.ndarray:
    text = config.pretrain.text
    own = read_lines(text.corpus) if text.corpus else ()
    reviews = read_reviews(prepared / "events.parquet") if text.reviews else ()
    tokens = tokenize_corpus(itertools.chain(own, reviews), tokenizer, max_len)
    if not len(tokens):
        raise UserError(
            f"config.pretrain.text: corpus {text.corpus!r} and reviews {text.reviews} hold no text"
        )
    return tokens


def _masked_text(
    texts: Texts, config: ConfigDict, encoder: EncoderConfig, causal: bool
) -> EncoderTask:
    del causal
    return MaskedText(
        encoder,
        _text_config(texts, config),
        config.pretrain.text.texts_per_row,
        mask_id=texts.mask_id,
        mask_rate=config.pretrain.text.mask_rate,
        with_corpus=_has_corpus(config),
    )


def _joint_item_text(
    texts: Texts, config: ConfigDict, encoder: EncoderConfig, causal: bool
) -> EncoderTask:
    del causal
    return JointItemText(
        encoder,
        _text_config(texts, config),
        config.pretrain.text.texts_per_row,
        mask_id=texts.mask_id,
        mask_rate=config.pretrain.text.mask_rate,
        item_loss=catalogue_loss_of(config.pretrain),
    )


def _text_alignment(
    texts: Texts, config: ConfigDict, encoder: EncoderConfig, causal: bool
) -> EncoderTask:
    return TextAlignment(
        encoder,
        _text_config(texts, config),
        config.pretrain.text.texts_per_row,
        causal=causal,
        dim=config.pretrain.text.alignment_dim,
    )


def _text_config(texts: Texts, config: ConfigDict) -> TextConfig:
    sizes = ("num_layers", "hidden_dim", "num_heads", "mlp_dim")
    names = (*sizes, "dropout_rate", "attention_dropout_rate")
    try:
        return TextConfig(
            vocab_size=texts.constants["token_kind"].shape[0],
            max_len=texts.constants["item_tokens"].shape[1],
            pad_id=texts.pad_id,
            **{name: config.pretrain.text[name] for name in names},
            **{name: config.model[name] for name in ("dtype", "scan", "remat")},
        )
    except ValueError as error:
        raise UserError(f"config.pretrain.text: {error}") from error


# by name: (texts, config, encoder, whether the mixture reads causally) -> objective
TEXT_OBJECTIVES: Mapping[str, Callable[[Texts, ConfigDict, EncoderConfig, bool], EncoderTask]] = {
    "masked_text": _masked_text,
    "joint_item_text": _joint_item_text,
    "text_alignment": _text_alignment,
}
