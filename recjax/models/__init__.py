"""Flax Linen modules, configured by plain dataclasses; parameters are a plain float32 tree.

`embed` and `encode` are separate calls. Only this room knows flax modules: `recjax.tasks` gives the
trainer `init` and `loss`. No files but pretrained weights, no mesh, no training here.
"""

from recjax.models.attention import SelfAttention, attend
from recjax.models.bert_settings import to_bert_settings, to_text_config
from recjax.models.blocks import BodyConfig, stack_layers, unstack_layers
from recjax.models.click_heads import CLICK_HEADS, INTERESTS
from recjax.models.click_tower import ClickHead
from recjax.models.dropout import dropout, fold_in_rows, row_uniform
from recjax.models.embeddings import INPUTS, MASK_ID, NUM_SPECIALS, PAD_ID, UNK_ID
from recjax.models.event_encoder import ENCODERS, EncoderConfig, EventEncoder
from recjax.models.heads import DenseHead, ItemBias, unit_vectors
from recjax.models.item_text import CommonSpace, ItemToken
from recjax.models.latent import LatentInput, Posterior
from recjax.models.pretrained import read_bert, write_bert
from recjax.models.sequence_gan import Critic, ItemReader
from recjax.models.text_bert import (
    TextBert,
    TextConfig,
    TextOutput,
    init_text_bert,
    mean_of_tokens,
)

__all__ = [
    "CLICK_HEADS",
    "ENCODERS",
    "INPUTS",
    "INTERESTS",
    "MASK_ID",
    "NUM_SPECIALS",
    "PAD_ID",
    "UNK_ID",
    "BodyConfig",
    "ClickHead",
    "CommonSpace",
    "Critic",
    "DenseHead",
    "EncoderConfig",
    "EventEncoder",
    "ItemBias",
    "ItemReader",
    "ItemToken",
    "LatentInput",
    "Posterior",
    "SelfAttention",
    "TextBert",
    "TextConfig",
    "TextOutput",
    "attend",
    "dropout",
    "fold_in_rows",
    "init_text_bert",
    "mean_of_tokens",
    "read_bert",
    "row_uniform",
    "stack_layers",
    "to_bert_settings",
    "to_text_config",
    "unit_vectors",
    "unstack_layers",
    "write_bert",
]
