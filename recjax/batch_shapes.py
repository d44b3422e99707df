"""Shapes of training batches without data: what a loader makes of one empty record, made larger.

Called by `recjax.planned`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from recjax.data.loading import ClickTrainBatches, TrainBatches
from recjax.data.record_sources import ListSource
from recjax.data.records import SCHEMAS
from recjax.data.row_batches import RowTrainBatches
from recjax.train import with_rows

Shapes = Mapping[str, Any]


def log_batch(config: ConfigDict, settings: ConfigDict, kind: str) -> Shapes:
    """Returns the shapes [M, B, ...] of a training batch of a behaviour log.

    Args:
        config: complete.
        settings: of the training.
        kind: of the records: "click" or "sequences".
    """
    record = {
        name: np.zeros(1 if field.is_array else (), field.dtype)
        for name, field in SCHEMAS[kind].items()
    }
    loader = ClickTrainBatches if kind == "click" else TrainBatches
    batches = loader(
        [[ListSource([record])]],
        batch_size=1,
        max_len=config.model.max_len,
        num_gap_bins=config.prepare.num_gap_bins,
        seeds=(0,),
    )
    return _enlarge(config, settings, batches)


def row_batch(
    config: ConfigDict, settings: ConfigDict, *, slots: int, weighted: bool, num_outcomes: int
) -> Shapes:
    """Returns the shapes [M, B, ...] of a training batch of a labelled table.

    Args:
        config: complete.
        settings: of the training.
        slots: of all features together.
        weighted: whether rows are multiplied by values.
        num_outcomes: of a row.
    """
    batches = RowTrainBatches(_OneRow(slots, weighted, num_outcomes), batch_size=1, seeds=(0,))
    return _enlarge(config, settings, batches)


def _enlarge(config: ConfigDict, settings: ConfigDict, batches: Any) -> Shapes:
    shape = (config.num_seeds, settings.batch_size)
    return {
        name: jax.ShapeDtypeStruct((*shape, *value.shape[2:]), value.dtype)
        for name, value in with_rows(next(iter(batches))).items()
    }


class _OneRow:
    """A table of one empty row."""

    def __init__(self, slots: int, weighted: bool, num_outcomes: int) -> None:
        self.ids = np.zeros((1, slots), np.int32)
        self.values = np.ones((1, slots), np.float32) if weighted else None
        self.label = np.zeros((1, num_outcomes) if num_outcomes > 1 else 1, np.float32)

    def __len__(self) -> int:
        return 1
