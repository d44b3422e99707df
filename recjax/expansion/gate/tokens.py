"""What of an event the gate knows users by: the item, and more where a strategy keeps all items.

Not here: the hashes of whole users (`hashing`) and who is looked up by them (`reference`).
"""

from collections.abc import Sequence

import numpy as np

from recjax.data.transforms import bin_gaps
from recjax.expansion.gate.hashing import mix
from recjax.expansion.records import Record, pad_field

FIELDS = ("items", "actions", "gaps")
ITEMS = ("items",)
_NUM_GAP_BINS = 32  # doubling from one second to 34 years: models read the same bins, or fewer


def make_tokens(records: Sequence[Record], by: tuple[str, ...]) -> np.ndarray:
    """Returns int64 or uint64 [B, T], equal where all named fields of two events are equal.

    Items alone are their own tokens. Gaps count as equal in one bin: a model cannot tell them.

    Args:
        records: B users.
        by: some of `FIELDS`, "items" the first.
    """
    tokens = pad_field(records, "items")
    for name in by[1:]:
        with np.errstate(over="ignore"):
            tokens = mix(mix(tokens) + _pad(records, name).astype(np.uint64))
    return tokens


def _pad(records: Sequence[Record], name: str) -> np.ndarray:
    if name != "gaps":
        return pad_field(records, name)
    times = pad_field(records, "times")
    return np.pad(bin_gaps(np.diff(times, axis=1), _NUM_GAP_BINS), ((0, 0), (1, 0)))
