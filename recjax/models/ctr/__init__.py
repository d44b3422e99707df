"""Click-through models over feature fields: one table, field vectors, a head from the registry.

A field is a column of a labelled table (user, item, weekday, price, tags). No files, no training.
"""

from recjax.models.ctr.model import HEADS, OUTCOME_HEADS, CtrModel, find_head
from recjax.models.ctr.settings import CtrConfig

__all__ = ["HEADS", "OUTCOME_HEADS", "CtrConfig", "CtrModel", "find_head"]
