"""The registries of heads, of one outcome and of several, and a whole model over fields.

Called by `recjax.tasks`.
"""

from collections.abc import Mapping

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
from recjax.models.ctr.multitask import (
    EntireSpace,
    InformationTransfer,
    LayeredExtraction,
    MixtureOfExperts,
    OutcomeHead,
    SharedBottom,
)
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

OUTCOME_HEADS: dict[str, type[OutcomeHead]] = {
    "shared_bottom": SharedBottom,
    "mmoe": MixtureOfExperts,
    "ple": LayeredExtraction,
    "esmm": EntireSpace,
    "aitm": InformationTransfer,
}


class CtrModel(nn.Module):
    """Scores rows of feature ids by the head of the settings.

    Attributes:
        config: head and sizes.

    Raises:
        ValueError: if there is no such head.
    """

    config: CtrConfig

    def setup(self) -> None:
        """Declares the head and the tables that it uses."""
        config = self.config
        self.head = find_head(config.head)(config)
        if self.head.uses_fields:
            self.embedding = Fields(config, config.embedding_dim)
        if self.head.uses_linear:
            self.linear = Fields(config, 1)

    def __call__(
        self,
        ids: jax.Array,
        values: jax.Array | None,
        keys: jax.Array | None = None,
        shift: jax.Array | None = None,
    ) -> jax.Array:
        """Computes logits.

        Args:
            ids: int32 [B, S], rows of the table.
            values: float32 [B, S], factors of the rows; None for ones.
            keys: typed PRNG keys [B] for dropout in training, None outside of it.
            shift: float32 [B, F, D], added to the field vectors; None for nothing.

        Returns:
            float32 [B, K], log-odds, one column a stream or an outcome of the head.
        """
        fields = self.embed(ids, values)
        fields = fields if shift is None else fields + shift
        linear = self.linear(ids, values)[..., 0] if self.head.uses_linear else None
        return self.head(fields.astype(jnp.dtype(self.config.dtype)), linear, keys)

    def embed(self, ids: jax.Array, values: jax.Array | None) -> jax.Array:
        """Returns field vectors float32 [B, F, D]; [B, 0, 0] for a head that has none."""
        if not self.head.uses_fields:
            return jnp.zeros((len(ids), 0, 0))
        return self.embedding(ids, values)


def find_head(name: str, known: Mapping[str, type[Head]] | None = None) -> type[Head]:
    """Returns a head of a registry; None: of both.

    Raises:
        ValueError: if there is none of this name; the message lists those there are.
    """
    known = {**HEADS, **OUTCOME_HEADS} if known is None else known
    if name not in known:
        raise ValueError(f"head {name!r} is unknown; known: {', '.join(known)}")
    return known[name]
