"""features: item vectors from the catalogue's titles; skipped where none are asked for."""

from typing import Any

import numpy as np

from recjax.context import Context
from recjax.errors import UserError


def run(context: Context) -> dict[str, Any]:
    """Writes features/item_vectors.npy [V, D] float32, or nothing when the config asks for none."""
    encoder = context.config.features.encoder
    if not encoder:
        context.progress.say("no item vectors asked for (config.features.encoder is empty)")
        return {"encoder": ""}
    if encoder != "tfidf":
        raise UserError(f"config.features.encoder = {encoder!r} is unknown; known: '', 'tfidf'")
    titles = np.load(context.workdir / "prepared" / "titles.npy")
    with context.workdir.fresh_folder("features") as folder:
        vectors = tfidf_vectors(titles, dim=64)
        np.save(folder / "item_vectors.npy", vectors)
    context.progress.say(f"{len(vectors):,} item vectors of width {vectors.shape[1]}")
    return {"encoder": encoder, "num_items": len(vectors)}


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
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(norm, 1e-9)).astype(np.float32)
