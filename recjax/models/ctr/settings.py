"""Sizes and settings of click-through heads over feature fields, checked before anything is traced.

Called by the other modules of this folder and by `recjax.tasks`.
"""

import dataclasses
from typing import Any

NORMS = ("none", "layer", "batch")
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CtrConfig:
    """A head and its sizes; a head reads those that its paper has and leaves the others alone.

    Attributes:
        head: one of `recjax.models.ctr.HEADS` or `OUTCOME_HEADS`.
        num_rows: rows V of the table that all fields share, each with rows of its own.
        slots: slots of each field, F numbers that add up to S; most have one, a multi-valued field
            has as many as it may hold.
        embedding_dim: D of a field.
        hidden_dims: widths of the deep part; of each of both streams (finalmlp, finalnet).
        norm: after each dense layer of the deep part, one of `NORMS`.
        dropout_rate: after each layer of the deep part.
        num_cross_layers: dcn, dcnv2, gdcn, autoint, eulernet; blocks of masknet.
        cross_dims: widths of the layers of xdeepfm's compressed interaction network.
        num_heads: attention heads of autoint; of finalmlp's bilinear fusion, a divisor of the
            streams' last width.
        attention_dim: width of a head of autoint.
        num_orders: order vectors of a layer of eulernet.
        mask_factor: hidden width of masknet's masks and finalmlp's gates, over that of what they
            mask.
        block_dim: width of a block of masknet.
        num_outcomes: K, of heads that judge several.
        tower_dims: widths of the tower of each outcome.
        num_experts: mmoe; ple, of each outcome and shared.
        num_levels: ple.
        dtype: compute dtype; parameters and logits are float32.

    Raises:
        ValueError: if a setting is out of range, naming it.
    """

    head: str
    num_rows: int
    slots: tuple[int, ...]
    embedding_dim: int = 10
    hidden_dims: tuple[int, ...] = (400, 400, 400)
    norm: str = "none"
    dropout_rate: float = 0.0
    num_cross_layers: int = 3
    cross_dims: tuple[int, ...] = (64, 64)
    num_heads: int = 2
    attention_dim: int = 32
    num_orders: int = 16
    mask_factor: float = 2.0
    block_dim: int = 64
    num_outcomes: int = 1
    tower_dims: tuple[int, ...] = (32,)
    num_experts: int = 4
    num_levels: int = 1
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("slots", "hidden_dims", "cross_dims", "tower_dims"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, known in (("norm", NORMS), ("dtype", DTYPES)):
            _check(name, getattr(self, name), getattr(self, name) in known, f"one of {known}")
        whole = ("num_rows", "embedding_dim", "num_cross_layers", "num_heads", "attention_dim")
        counts = ("num_orders", "block_dim", "num_outcomes", "num_experts", "num_levels")
        for name in (*whole, *counts):
            _check(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("slots", "hidden_dims", "cross_dims", "tower_dims"):
            sizes = getattr(self, name)
            _check(name, sizes, bool(sizes) and min(sizes) >= 1, "numbers, each at least 1")
        _check("dropout_rate", self.dropout_rate, 0 <= self.dropout_rate < 1, "in [0, 1)")
        _check("mask_factor", self.mask_factor, self.mask_factor > 0, "above 0")
        if self.head == "finalmlp":
            divides = self.hidden_dims[-1] % self.num_heads == 0
            _check("num_heads", self.num_heads, divides, f"a divisor of {self.hidden_dims[-1]}")

    @property
    def num_fields(self) -> int:
        """Fields F."""
        return len(self.slots)

    @property
    def width(self) -> int:
        """Width F D of all fields beside each other."""
        return self.num_fields * self.embedding_dim


def _check(name: str, value: Any, good: bool, wanted: str) -> None:
    if not good:
        raise ValueError(f"{name} = {value!r}; it must be {wanted}")
