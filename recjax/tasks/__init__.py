"""Tasks bind encoder, head and loss; they know nothing of time, disk or the mesh.

Every task is a frozen dataclass with a `name` and
`init(key, batch) -> params`, `logical_axes() -> tree of PartitionSpec`,
`loss(params, batch, constants, *, keys, train) -> {name: (sum, weight)}`.
Parameters are `{"encoder": ..., "head": ...}`, with "text" where a text encoder learns too; the
encoder's tree is the same for all of them, so `transfer` starts one task from another, and
`Mixture` trains several over one encoder. There is no member axis here: the trainer vmaps.
"""

from recjax.tasks.adaptation import Adaptation
from recjax.tasks.attributes import ItemAttribute, MaskedAttribute
from recjax.tasks.click import Click
from recjax.tasks.fresh_rows import FreshRows
from recjax.tasks.joint_item_text import JointItemText
from recjax.tasks.masked_item import MaskedItem
from recjax.tasks.masked_segment import MaskedSegment
from recjax.tasks.masked_text import MaskedText
from recjax.tasks.mixture import Mixture
from recjax.tasks.next_item import NextItem
from recjax.tasks.next_session import NextSession
from recjax.tasks.parameters import transfer
from recjax.tasks.replaced_item import ReplacedItem
from recjax.tasks.row_click import RowClick
from recjax.tasks.row_outcomes import RowOutcomes
from recjax.tasks.sequence_contrast import SequenceContrast
from recjax.tasks.sequence_gan import SequenceGan
from recjax.tasks.sequence_vae import SequenceVae
from recjax.tasks.text_alignment import TextAlignment
from recjax.tasks.text_task import TextTask

__all__ = [
    "Adaptation",
    "Click",
    "FreshRows",
    "ItemAttribute",
    "JointItemText",
    "MaskedAttribute",
    "MaskedItem",
    "MaskedSegment",
    "MaskedText",
    "Mixture",
    "NextItem",
    "NextSession",
    "ReplacedItem",
    "RowClick",
    "RowOutcomes",
    "SequenceContrast",
    "SequenceGan",
    "SequenceVae",
    "TextAlignment",
    "TextTask",
    "transfer",
]
