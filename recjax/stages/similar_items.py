"""Which items resemble each other, as `config.expansion.similarity` asks; made once per run.

Not here: how similarity is found (`recjax.expansion.similarity`). Called by the expand stage.
"""

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from recjax.expansion import (
    SimilarItems,
    SimilarityConfig,
    compare_vectors,
    count_co_visits,
    make_graph_vectors,
)
from recjax.expansion.records import count_items
from recjax.expansion.similarity import Vectors
from recjax.experiment import Experiment


def open_similar_items(experiment: Experiment, path: Path) -> SimilarItems:
    """Returns the lists, from the file `path` if it is there, else made and written whole.

    Raises:
        ValueError: if a setting is wrong, or asks for vectors or a graph that are not there.
    """
    if path.exists():
        with np.load(path, allow_pickle=False) as arrays:
            return SimilarItems(**arrays)
    similar = _find_similar_items(experiment)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        np.savez(file, allow_pickle=False, **vars(similar))
    os.replace(partial, path)
    return similar


def _find_similar_items(experiment: Experiment) -> SimilarItems:
    config = SimilarityConfig(**experiment.context.config.expansion.similarity)
    source = experiment.examples("sequences", "train")
    if config.by == "co_visit":
        return count_co_visits(source, experiment.items.vocab_size, config)
    vectors = _graph_vectors(experiment) if config.by == "graph" else _text_vectors(experiment)
    return compare_vectors(vectors, np.flatnonzero(count_items(source)), config.num_items)


def _text_vectors(experiment: Experiment) -> Vectors:
    path = experiment.context.workdir / "features" / "item_vectors.npy"
    if not path.exists():
        raise ValueError(
            "similarity.by = 'vectors' needs item vectors: set config.features.encoder (e.g. "
            "'tfidf') and run the features stage"
        )
    return np.load(path, mmap_mode="r")


def _graph_vectors(experiment: Experiment) -> Vectors:
    path = experiment.context.workdir / "prepared" / "graph.parquet"
    if not path.exists():
        raise ValueError(
            "similarity.by = 'graph' needs a knowledge graph: set config.data.graph_path and "
            "prepare again"
        )
    return make_graph_vectors(pq.read_table(path), experiment.items.item_ids)
