"""features: item vectors from the catalogue's titles; skipped where none are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recjax.context import Context
from recjax.errors import UserError

if TYPE_CHECKING:
    from recjax.data.text import TitleTokenizer
    from recjax.models import TextConfig

_FILE = "item_vectors.npy"
_TFIDF_DIM = 64


def run(context: Context) -> dict[str, Any]:
    """Writes features/item_vectors.npy [V, D] float32, or nothing when the config asks for none."""
    encoder = context.config.features.encoder
    if not encoder:
        context.progress.say("no item vectors asked for (config.features.encoder is empty)")
        return {"encoder": ""}
    if encoder not in _WRITERS:
        known = ", ".join(repr(name) for name in ("", *_WRITERS))
        raise UserError(f"config.features.encoder = {encoder!r} is unknown; known: {known}")
    with context.workdir.fresh_folder("features") as folder:
        _WRITERS[encoder](context, folder / _FILE)
        num_items, dim = np.load(folder / _FILE, mmap_mode="r").shape
    context.progress.say(f"{num_items:,} item vectors of width {dim}")
    return {"encoder": encoder, "num_items": num_items}


def _write_tfidf(context: Context, path: Path) -> None:
    titles = np.load(context.workdir / "prepared" / "titles.npy")
    np.save(path, tfidf_vectors(titles, dim=_TFIDF_DIM))


def _write_bert(context: Context, path: Path) -> None:
    """Runs the titles through a BERT folder; holds the model and one batch, whatever the shop."""
    settings = context.config.features
    tokenizer, config, params = open_bert(settings.folder)
    if not 3 <= settings.max_len <= config.max_len:
        raise UserError(
            f"config.features.max_len = {settings.max_len}; "
            f"{settings.folder} takes 3 to {config.max_len} tokens"
        )
    if settings.batch_size < 1:
        raise UserError(f"config.features.batch_size = {settings.batch_size}; give at least 1")
    encode = title_encoder(tokenizer, config, params, settings.max_len, settings.batch_size)
    items = context.workdir / "prepared" / "items.parquet"
    num_items = _count_rows(items)
    shape = (num_items, config.hidden_dim)
    vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    done = 0
    for titles in _title_batches(items, settings.batch_size):
        vectors[done : done + len(titles)] = encode(titles)
        done += len(titles)
        context.progress.update("titles", done, num_items)
    vectors.flush()


_WRITERS: dict[str, Callable[[Context, Path], None]] = {
    "tfidf": _write_tfidf,
    "bert": _write_bert,
}


def open_bert(folder: str) -> tuple[TitleTokenizer, TextConfig, dict[str, Any]]:
    """Opens a Hugging Face BERT folder: tokenizer, configuration and parameters.

    Raises:
        UserError: if no folder is given, a part is missing or spoiled, or the tokenizer has more
            tokens than the model.
    """
    from recjax.data.text import load_tokenizer
    from recjax.models import read_bert

    if not folder:
        raise UserError(
            "config.features.folder is empty; encoder 'bert' needs the folder of a "
            "Hugging Face BERT (config.json, model.safetensors, tokenizer)"
        )
    try:
        config, params = read_bert(folder)
    except ValueError as error:
        raise UserError(f"config.features.folder: {error}") from error
    tokenizer = load_tokenizer(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"config.features.folder: the tokenizer of {folder} has {tokenizer.vocab_size} tokens, "
            f"its model {config.vocab_size}"
        )
    return tokenizer, config, params


def title_encoder(
    tokenizer: TitleTokenizer,
    config: TextConfig,
    params: dict[str, Any],
    max_len: int,
    batch_size: int,
) -> Callable[[list[str]], np.ndarray]:
    """Returns encode(titles) -> unit vectors float32 [n, D], n <= batch_size; 0 without a title.

    A vector is the mean of the hidden states of a title's tokens. Compiled once: a short batch is
    filled up.
    """
    import jax

    from recjax.data.text import tokenize_titles
    from recjax.models import TextBert, mean_of_tokens

    model, on_device = TextBert(config), jax.device_put(params)

    @jax.jit
    def run(params: Any, tokens: jax.Array, segments: jax.Array) -> jax.Array:
        batch = {"tokens": tokens, "segments": segments}
        x = model.apply({"params": params}, batch, method="embed")
        hidden: Any = model.apply({"params": params}, x, batch, False, method="encode")
        return mean_of_tokens(hidden, segments)

    def encode(titles: list[str]) -> np.ndarray:
        filled = titles + [""] * (batch_size - len(titles))
        tokens = tokenize_titles(filled, tokenizer, max_len)
        segments = (tokens != tokenizer.pad_id).astype(np.int32)
        return _unit(np.asarray(run(on_device, tokens, segments)))[: len(titles)]

    return encode


def _count_rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return pq.read_metadata(path).num_rows


def _title_batches(path: Path, batch_size: int) -> Iterator[list[str]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size, columns=["title"]):
            yield [title or "" for title in batch["title"].to_pylist()]


def tfidf_vectors(titles: np.ndarray, dim: int) -> np.ndarray:
    """Returns unit vectors float32 [V, <=dim]: truncated SVD of the titles' tf-idf.

    Args:
        titles: int32 [V, L] token ids, 0 is padding.
        dim: width, static.

    Reference:
        Deerwester et al. (1990), "Indexing by Latent Semantic Analysis".
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import svds

    row, _ = np.nonzero(titles)
    counts = csr_matrix(
        (np.ones(len(row)), (row, titles[titles > 0])), (len(titles), int(titles.max()) + 1)
    )
    document_share = np.maximum(np.asarray((counts > 0).sum(axis=0)).ravel(), 1) / len(titles)
    weighted = counts.multiply(-np.log(document_share)[None, :]).tocsr()
    rank = min(dim, min(weighted.shape) - 1)
    left, scale, _ = svds(weighted, k=rank, v0=np.ones(min(weighted.shape)))
    vectors = (left * scale)[:, ::-1]
    return _unit(vectors)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(norm, 1e-9)).astype(np.float32)
