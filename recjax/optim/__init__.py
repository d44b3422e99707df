"""Optimizers from plain settings: dense parts, tables by row, schedules, and who takes part.

Everything is an optax transformation of one member's parameters; the step vmaps over members and
knows none of this. optax has no Shampoo with accumulated statistics; Muon is its one optimizer of
that kind (Shampoo without accumulation). Called by `recjax.recipe`.
"""

from recjax.optim.masks import decays, depth_scales, frozen, is_table
from recjax.optim.optimizer import make_optimizer
from recjax.optim.schedules import make_schedule
from recjax.optim.settings import OptimizerConfig

__all__ = [
    "OptimizerConfig",
    "decays",
    "depth_scales",
    "frozen",
    "is_table",
    "make_optimizer",
    "make_schedule",
]
