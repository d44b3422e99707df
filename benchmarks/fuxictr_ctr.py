"""DeepFM and DCNv2 out of FuxiCTR's own layers, loader and train step: peer of `ctr_speed.py`.

Its package brings base model, layers and loaders; the two models, which it keeps in its repository,
are put together of these layers here. Batches come from its loader of one .npz file, without worker
processes (all sides have one core); its train step clips gradients, which cannot be turned off.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers import CrossNetV2, FactorizationMachine, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from torch import nn

if TYPE_CHECKING:
    from ctr_speed import Workload

_GRADIENT_NORM = 10.0  # FuxiCTR's default


class Model(BaseModel):
    """One of the two heads over FuxiCTR's embeddings."""

    def __init__(self, feature_map: FeatureMap, work: Workload, learning_rate: float) -> None:
        folder = tempfile.mkdtemp()
        super().__init__(feature_map, verbose=0, model_root=folder, metrics=["AUC"])
        width, crosses = work.fields * work.dim, work.head == "dcnv2"
        self.embedding_layer = FeatureEmbedding(feature_map, work.dim)
        self.tower = MLP_Block(
            width, list(work.hidden_dims), output_dim=None if crosses else 1, output_activation=None
        )
        if crosses:
            self.crossnet = CrossNetV2(width, work.cross_layers)
            self.logit = nn.Linear(width + work.hidden_dims[-1], 1)
        else:
            self.machine = FactorizationMachine(feature_map)
        self.crosses = crosses
        self.compile("adam", "binary_crossentropy", learning_rate)
        self.reset_parameters()
        self._max_gradient_norm = _GRADIENT_NORM

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Computes probabilities [B, 1]."""
        found = self.get_inputs(inputs)
        fields = self.embedding_layer(found)
        flat = fields.flatten(start_dim=1)
        if self.crosses:
            logits = self.logit(torch.cat([self.crossnet(flat), self.tower(flat)], dim=1))
        else:
            logits = self.machine(found, fields) + self.tower(flat)
        return {"y_pred": self.output_activation(logits)}


def make_stepper(
    work: Workload, ids: np.ndarray, labels: np.ndarray, *, learning_rate: float
) -> Callable[[], None]:
    """A function that takes the next batch of FuxiCTR's loader and trains on it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    feature_map, size = _feature_map(work), work.table_rows // work.fields
    columns = {f"f{k}": ids[:, k] - size * k for k in range(work.fields)}
    file = Path(tempfile.mkdtemp()) / "train.npz"
    np.savez(file, label=labels, **columns)
    settings: dict[str, Any] = {"batch_size": work.batch, "shuffle": True, "num_workers": 0}
    loader, _ = RankDataLoader(feature_map, "train", str(file), data_format="npz", **settings)
    model = Model(feature_map, work, learning_rate)
    model.train()
    batches = iter(loader)

    def take_step() -> None:
        nonlocal batches
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            batch = next(batches)
        model.train_step(batch)

    return take_step


def _feature_map(work: Workload) -> FeatureMap:
    found = FeatureMap("rows", tempfile.mkdtemp())
    found.labels, found.default_emb_dim = ["label"], work.dim
    size = work.table_rows // work.fields
    for k in range(work.fields):
        found.features[f"f{k}"] = {"source": "", "type": "categorical", "vocab_size": size}
    found.num_fields = work.fields
    found.set_column_index()
    return found
