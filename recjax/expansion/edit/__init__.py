"""Strategies that change real sequences: one small file each, numpy only."""

from recjax.expansion.edit.sliding_window import SlidingWindow
from recjax.expansion.edit.subset_split import SubsetSplit

__all__ = ["SlidingWindow", "SubsetSplit"]
