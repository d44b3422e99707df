"""Linear, factorized and deep heads: LR, FM, DNN, Wide & Deep, DeepFM.

Every head of this folder maps field vectors float [B, F, D], the linear terms of the fields
float32 [B, F] (None where `uses_linear` is False) and dropout keys (None outside of training) to
logits float32 [B, K]; K is 1, but for heads that judge in several streams. Called by
`recjax.models.ctr.model`.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.ctr.layers import Tower, flatten, to_logit
from recjax.models.ctr.settings import CtrConfig


class Head(nn.Module):
    """A head of the registry; subclasses implement `__call__`.

    Attributes:
        config: sizes.
    """

    config: CtrConfig
    uses_fields: ClassVar[bool] = True
    uses_linear: ClassVar[bool] = False

    def __call__(
        self, fields: jax.Array, linear: jax.Array | None, keys: jax.Array | None
    ) -> jax.Array:
        """Returns logits float32 [B, K]."""
        raise NotImplementedError


class Linear(Head):
    """Logistic regression: the sum of a weight per value of a field, and a bias.

    Reference:
        Richardson, Dominowska and Ragno (2007), "Predicting Clicks".
    """

    uses_fields: ClassVar[bool] = False
    uses_linear: ClassVar[bool] = True

    @nn.compact
    def __call__(
        self, fields: jax.Array, linear: jax.Array | None, keys: jax.Array | None
    ) -> jax.Array:
        """Returns logits float32 [B, 1]."""
        del fields, keys
        return linear_logit(self, linear)[:, None]


class FactorizationMachine(Head):
    """Linear terms and inner products of all pairs of fields.

    Reference:
        Rendle (2010), "Factorization Machines", Eq. 1 and Lemma 3.1.
    """

    uses_linear: ClassVar[bool] = True

    @nn.compact
    def __call__(
        self, fields: jax.Array, linear: jax.Array | None, keys: jax.Array | None
    ) -> jax.Array:
        """Returns logits float32 [B, 1]."""
        del keys
        return (linear_logit(self, linear) + pair_products(fields))[:, None]


class Deep(Head):
    """A tower over all fields.

    Reference:
        Covington, Adams and Sargin (2016), "Deep Neural Networks for YouTube Recommendations".
    """

    @nn.compact
    def __call__(
        self, fields: jax.Array, linear: jax.Array | None, keys: jax.Array | None
    ) -> jax.Array:
        """Returns logits float32 [B, 1]."""
        del linear
        return deep_logit(self.config, fields, keys)[:, None]


class WideAndDeep(Head):
    """A linear and a deep part, added; the wide part has the fields, no crosses made by hand.

    Reference:
        Cheng et al. (2016), "Wide & Deep Learning for Recommender Systems", Eq. 3.
    """

    uses_linear: ClassVar[bool] = True

    @nn.compact
    def __call__(
        self, fields: jax.Array, linear: jax.Array | None, keys: jax.Array | None
    ) -> jax.Array:
        """Returns logits float32 [B, 1]."""
        return (linear_logit(self, linear) + deep_logit(self.config, fields, keys))[:, None]


class DeepFm(Head):
    """A factorization machine and a tower over the same field vectors, added.

    Reference:
        Guo et al. (2017), "DeepFM", Eq. 1 to 4.
    """

    uses_linear: ClassVar[bool] = True

    @nn.compact
    def __call__(
        self, fields: jax.Array, linear: jax.Array | None, keys: jax.Array | None
    ) -> jax.Array:
        """Returns logits float32 [B, 1]."""
        machine = linear_logit(self, linear) + pair_products(fields)
        return (machine + deep_logit(self.config, fields, keys))[:, None]


def linear_logit(head: nn.Module, linear: jax.Array | None) -> jax.Array:
    """Sums linear terms float32 [B, F] and the head's bias -> float32 [B]."""
    assert linear is not None, "this head has linear terms"
    return linear.sum(axis=1) + head.param("bias", nn.initializers.zeros_init(), (), jnp.float32)


def pair_products(fields: jax.Array) -> jax.Array:
    """Sums the inner products of all pairs of fields float [B, F, D] -> float32 [B]."""
    fields = fields.astype(jnp.float32)
    squared_sum = jnp.square(fields.sum(axis=1))
    return 0.5 * (squared_sum - jnp.square(fields).sum(axis=1)).sum(axis=1)


def deep_logit(config: CtrConfig, fields: jax.Array, keys: jax.Array | None) -> jax.Array:
    """The deep part's logit float32 [B]; called within a module."""
    return to_logit(config, Tower(config, config.hidden_dims, name="deep")(flatten(fields), keys))
