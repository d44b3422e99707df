"""DeepFM and DCNv2 in PyTorch, as fast as PyTorch does them: peer of `ctr_speed.py`.

Same sizes, inputs, loss and optimizer as recjax: one embedding table for all fields, ReLU, fused
Adam. `compiled` runs the model through `torch.compile`; `sparse` looks tables up with sparse
gradients and trains them with SparseAdam, which touches only the rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from ctr_speed import Workload


class Head(nn.Module):
    """Ids int64 [B, F] to log-odds [B]."""

    def __init__(self, work: Workload, sparse: bool) -> None:
        super().__init__()
        width = work.fields * work.dim
        self.head, self.width = work.head, width
        self.table = nn.Embedding(work.table_rows, work.dim, sparse=sparse)
        nn.init.normal_(self.table.weight, std=0.02)
        sizes = [width, *work.hidden_dims]
        layers = [
            part
            for before, after in zip(sizes, sizes[1:], strict=False)
            for part in (nn.Linear(before, after), nn.ReLU())
        ]
        self.tower = nn.Sequential(*layers)
        if work.head == "deepfm":
            self.weights = nn.Embedding(work.table_rows, 1, sparse=sparse)
            nn.init.normal_(self.weights.weight, std=0.02)
            self.bias = nn.Parameter(torch.zeros(()))
            self.logit = nn.Linear(sizes[-1], 1)
        else:
            self.crosses = nn.ModuleList(nn.Linear(width, width) for _ in range(work.cross_layers))
            self.logit = nn.Linear(sizes[-1] + width, 1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Computes log-odds."""
        fields = self.table(ids)
        x0 = fields.reshape(-1, self.width)
        deep = self.tower(x0)
        if self.head == "deepfm":
            pairs = 0.5 * (fields.sum(1).square() - fields.square().sum(1)).sum(1)
            linear = self.weights(ids).sum((1, 2)) + self.bias
            return linear + pairs + self.logit(deep)[:, 0]
        x = x0
        for cross in self.crosses:
            x = x0 * cross(x) + x
        return self.logit(torch.cat([x, deep], 1))[:, 0]


def make_stepper(
    work: Workload,
    ids: np.ndarray,
    labels: np.ndarray,
    *,
    compiled: bool,
    sparse: bool,
    learning_rate: float,
) -> Callable[[], None]:
    """A function that takes the next batch of a table in memory and trains on it.

    Args:
        work: sizes.
        ids: int32 [N, F].
        labels: float32 [N].
        compiled: whether the model goes through `torch.compile`.
        sparse: whether tables have sparse gradients.
        learning_rate: of Adam.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Head(work, sparse)
    tables = [p for name, p in model.named_parameters() if name.startswith(("table", "weights"))]
    dense = [p for p in model.parameters() if not any(p is table for table in tables)]
    optimizers = [
        torch.optim.Adam(dense if sparse else model.parameters(), learning_rate, fused=True)
    ]
    if sparse:
        optimizers.append(torch.optim.SparseAdam(tables, learning_rate))
    run = torch.compile(model) if compiled else model
    rows, answers = torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(labels)
    order, position = torch.randperm(len(ids)), 0

    def take_step() -> None:
        nonlocal order, position
        if position + work.batch > len(order):
            order, position = torch.randperm(len(ids)), 0
        chosen = order[position : position + work.batch]
        position += work.batch
        loss = functional.binary_cross_entropy_with_logits(run(rows[chosen]), answers[chosen])
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    return take_step
