"""Losses as `(sum, weight)`: the step adds them up and divides once, at the end.

Full and sampled losses over a catalogue without the [tokens, V] logits, sigmoid cross-entropy for
clicks, InfoNCE for pairs. No parameters, no models, no metrics live here; `recjax.tasks` calls
these.
"""

from recjax.losses.binary import sigmoid_cross_entropy
from recjax.losses.catalogue import CatalogueLoss
from recjax.losses.cross_entropy import chunked_cross_entropy
from recjax.losses.info_nce import info_nce
from recjax.losses.negatives import PROPOSALS, draw_negatives
from recjax.losses.sampled import gbce_beta, generalised_bce, sampled_cross_entropy

__all__ = [
    "PROPOSALS",
    "CatalogueLoss",
    "chunked_cross_entropy",
    "draw_negatives",
    "gbce_beta",
    "generalised_bce",
    "info_nce",
    "sampled_cross_entropy",
    "sigmoid_cross_entropy",
]
