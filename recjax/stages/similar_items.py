"""Which items resemble each other, as `config.expansion.similarity` asks; made once per run.

Not here: how similarity is found (`recjax.expansion.similarity`). Called by the expand stage.
"""

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
from recjax.expansion.array_file import load_arrays, save_arrays
from recjax.expansion.records import count_items
from recjax.expansion.similarity import Vectors
from recjax.experiment import Experiment


def open_similar_items(experiment: Experiment, path: Path) -> SimilarItems:
    """Returns the lists, from the file `path` if it is there, else made and written whole.

    Raises:
        ValueError: if a setting is wrong, or asks for vectors or a graph that are not there.
    """
    if path.exists():
        return SimilarItems(**load_arrays(path))
    similar = _find_similar_items(experiment)
    save_arrays(path, vars(similar))
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
    advice = "item vectors: set config.features.encoder (e.g. 'tfidf') and run the features stage"
    return np.load(_required(path, f"'vectors' needs {advice}"), mmap_mode="r")


def _graph_vectors(experiment: Experiment) -> Vectors:
    path = experiment.context.workdir / "prepared" / "graph.parquet"
    advice = "a knowledge graph: set config.data.graph_path and prepare again"
    facts = pq.read_table(_required(path, f"'graph' needs {advice}"))
    return make_graph_vectors(facts, experiment.items.item_ids)


def _required(path: Path, message: str) -> Path:
    if not path.exists():
        raise ValueError(f"similarity.by = {message}")
    return path
