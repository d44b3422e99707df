"""The gate: only draws that deserve it reach the model, and every other is counted with its reason.

Streaming and deterministic; memory is stated in `duplicates` and `run`. This package uses numpy
only; scores of draws come in as functions.
"""

from recjax.expansion.gate.bands import ScoreBand, ScoreFn, fit_band
from recjax.expansion.gate.reference import (
    RealReference,
    UserIndex,
    build_reference,
    index_users,
)
from recjax.expansion.gate.run import run_gate
from recjax.expansion.gate.settings import GateConfig, GateCounts

__all__ = [
    "GateConfig",
    "GateCounts",
    "RealReference",
    "ScoreBand",
    "ScoreFn",
    "UserIndex",
    "build_reference",
    "fit_band",
    "index_users",
    "run_gate",
]
