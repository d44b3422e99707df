"""Losses as `(sum, weight)`: the step adds them up and divides once, at the end.

Full cross-entropy over a catalogue without the [tokens, V] logits, and sigmoid cross-entropy for
clicks. No parameters, no models, no metrics live here; `recjax.tasks` calls these.
"""

from recjax.losses.binary import sigmoid_cross_entropy
from recjax.losses.cross_entropy import chunked_cross_entropy

__all__ = ["chunked_cross_entropy", "sigmoid_cross_entropy"]
