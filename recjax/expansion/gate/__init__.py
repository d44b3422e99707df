"""The gate: only draws that deserve it reach the model, and every other is counted with its reason.

Streaming and deterministic; memory is stated in `duplicates` and `run`. This package uses numpy
only; the likelihood comes in as a function.
"""

from recjax.expansion.gate.likelihood import LikelihoodBand, ScoreFn, fit_band
from recjax.expansion.gate.reference import RealReference, UserIndex, build_reference
from recjax.expansion.gate.run import run_gate
from recjax.expansion.gate.settings import GateConfig, GateCounts

__all__ = [
    "GateConfig",
    "GateCounts",
    "LikelihoodBand",
    "RealReference",
    "ScoreFn",
    "UserIndex",
    "build_reference",
    "fit_band",
    "run_gate",
]
