"""Flax Linen modules, configured by plain dataclasses; parameters are a plain float32 tree.

`embed` and `encode` are separate calls. Only this room knows flax modules: `recjax.tasks` gives the
trainer `init` and `loss`. No files, no mesh, no training here.
"""

from recjax.models.attention import SelfAttention, attend
from recjax.models.bert import BertEncoder, EncoderConfig
from recjax.models.blocks import BodyConfig, stack_layers, unstack_layers
from recjax.models.dropout import dropout, fold_in_rows, row_uniform
from recjax.models.embeddings import INPUTS, MASK_ID, NUM_SPECIALS, PAD_ID, UNK_ID
from recjax.models.heads import ClickHead, ItemBias

__all__ = [
    "INPUTS",
    "MASK_ID",
    "NUM_SPECIALS",
    "PAD_ID",
    "UNK_ID",
    "BertEncoder",
    "BodyConfig",
    "ClickHead",
    "EncoderConfig",
    "ItemBias",
    "SelfAttention",
    "attend",
    "dropout",
    "fold_in_rows",
    "row_uniform",
    "stack_layers",
    "unstack_layers",
]
