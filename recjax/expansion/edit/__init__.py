"""Strategies that change real sequences: one small file each, numpy only.

There is no `mask`: a record holds no special ids, and with its hidden events left out a masked user
is one of `subset_split`. Hiding events is done where [MASK] exists, in `recjax.tasks`.
"""

from recjax.expansion.edit.action_change import ActionChange
from recjax.expansion.edit.crop import Crop
from recjax.expansion.edit.gap_noise import GapNoise
from recjax.expansion.edit.insert import Insert
from recjax.expansion.edit.reorder import Reorder
from recjax.expansion.edit.reverse import Reverse
from recjax.expansion.edit.settings import EditConfig
from recjax.expansion.edit.sliding_window import SlidingWindow
from recjax.expansion.edit.splice import Splice
from recjax.expansion.edit.subset_split import SubsetSplit
from recjax.expansion.edit.substitute import Substitute
from recjax.expansion.edit.swap_noise import SwapNoise

__all__ = [
    "ActionChange",
    "Crop",
    "EditConfig",
    "GapNoise",
    "Insert",
    "Reorder",
    "Reverse",
    "SlidingWindow",
    "Splice",
    "SubsetSplit",
    "Substitute",
    "SwapNoise",
]
