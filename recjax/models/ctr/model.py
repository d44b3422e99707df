"""The registry of heads, and a whole model: tables, field vectors, head.

Called by `recjax.tasks.row_click`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.ctr.attention import AutoInt
from recjax.models.ctr.classic import (
    Deep,
    DeepFm,
    FactorizationMachine,
    Head,
    Linear,
    WideAndDeep,
)
from recjax.models.ctr.crosses import (
    CompressedInteraction,
    CrossNetwork,
    CrossNetworkV2,
    GatedCrossNetwork,
)
from recjax.models.ctr.euler import EulerNet
from recjax.models.ctr.gated import FinalMlp, FinalNet, MaskNet
from recjax.models.ctr.layers import Fields
from recjax.models.ctr.settings import CtrConfig

HEADS: dict[str, type[Head]] = {
    "lr": Linear,
    "fm": FactorizationMachine,
    "dnn": Deep,
    "wide_deep": WideAndDeep,
    "deepfm": DeepFm,
    "dcn": CrossNetwork,
    "dcnv2": CrossNetworkV2,
    "xdeepfm": CompressedInteraction,
    "autoint": AutoInt,
    "finalmlp": FinalMlp,
    "finalnet": FinalNet,
    "eulernet": EulerNet,
    "masknet": MaskNet,
    "gdcn": GatedCrossNetwork,
}


class CtrModel(nn.Module):
    """Scores rows of feature ids by the head of the settings.

    Attributes:
        config: head and sizes.

    Raises:
        ValueError: if there is no such head.
    """

    config: CtrConfig

    @nn.compact
    def __call__(
        self, ids: jax.Array, values: jax.Array | None, keys: jax.Array | None = None
    ) -> jax.Array:
        """Computes logits.

        Args:
            ids: int32 [B, S], rows of the table.
            values: float32 [B, S], factors of the rows; None for ones.
            keys: typed PRNG keys [B] for dropout in training, None outside of it.

        Returns:
            float32 [B, K], log-odds of a click, one column a stream of the head.
        """
        config = self.config
        head = find_head(config.head)(config, name="head")
        # A head of linear terms alone is told how many rows there are, and nothing else of fields.
        fields = jnp.zeros((len(ids), 0, 0))
        if head.uses_fields:
            fields = Fields(config, config.embedding_dim, name="embedding")(ids, values)
        linear = None
        if head.uses_linear:
            linear = Fields(config, 1, name="linear")(ids, values)[..., 0]
        return head(fields.astype(jnp.dtype(config.dtype)), linear, keys)


def find_head(name: str) -> type[Head]:
    """Returns a head of the registry.

    Raises:
        ValueError: if there is none of this name; the message lists those there are.
    """
    if name not in HEADS:
        raise ValueError(f"head {name!r} is unknown; known: {', '.join(HEADS)}")
    return HEADS[name]
