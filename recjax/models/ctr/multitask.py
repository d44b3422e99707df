"""Heads that judge several outcomes of a row at once: shared bottom, MMoE, PLE, ESMM, AITM.

They map as the other heads do (see `recjax.models.ctr.classic`); column k of the logits [B, K] is
the log-odds of outcome k. Called by `recjax.models.ctr.model`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from recjax.models.ctr.classic import Head
from recjax.models.ctr.layers import Tower, dense, flatten, to_logit

_FIRST_OUTCOME = 1 << 12  # number of the first outcome's tower, beyond all experts


class OutcomeHead(Head):
    """Subclasses make a vector per outcome out of the fields; a tower of its own judges each."""

    def read(self, x: jax.Array, keys: jax.Array | None) -> list[jax.Array]:
        """Maps fields float [B, N] to a vector float [B, W] for each outcome."""
        raise NotImplementedError

    @nn.compact
    def __call__(
        self, fields: jax.Array, linear: jax.Array | None, keys: jax.Array | None
    ) -> jax.Array:
        """Returns logits float32 [B, K]."""
        del linear
        logits = [
            to_logit(self.config, self.tower(x, f"outcome_{number}", keys), f"logit_{number}")
            for number, x in enumerate(self.read(flatten(fields), keys))
        ]
        return self.combine(jnp.stack(logits, axis=1))

    def combine(self, logits: jax.Array) -> jax.Array:
        """Turns what the towers say, float32 [B, K], into log-odds of the outcomes."""
        return logits

    def tower(self, x: jax.Array, name: str, keys: jax.Array | None) -> jax.Array:
        """Runs the tower of an outcome, float [B, last of `tower_dims`]."""
        number = _FIRST_OUTCOME + int(name.rpartition("_")[2])
        return Tower(self.config, self.config.tower_dims, number, name=name)(x, keys)

    def experts(
        self, x: jax.Array, count: int, name: str, first: int, keys: jax.Array | None
    ) -> jax.Array:
        """Runs experts, each a tower of `hidden_dims`, float [B, count, W]."""
        config = self.config
        outputs = [
            Tower(config, config.hidden_dims, first + i, name=f"{name}_{i}")(x, keys)
            for i in range(count)
        ]
        return jnp.stack(outputs, axis=1)

    def mix(self, x: jax.Array, experts: jax.Array, name: str) -> jax.Array:
        """Weighs experts [B, E, W] by a softmax over a dense layer of x, float [B, W]."""
        scores = dense(self.config, experts.shape[1], name, use_bias=False)(x)
        shares = nn.softmax(scores.astype(jnp.float32), axis=-1).astype(experts.dtype)
        return jnp.einsum("be,bew->bw", shares, experts)


class SharedBottom(OutcomeHead):
    """One tower over all fields, which all outcomes share.

    Reference:
        Caruana (1997), "Multitask Learning".
    """

    def read(self, x: jax.Array, keys: jax.Array | None) -> list[jax.Array]:
        """Returns the same vector float [B, W] for every outcome."""
        bottom = Tower(self.config, self.config.hidden_dims, name="bottom")(x, keys)
        return [bottom] * self.config.num_outcomes


class MixtureOfExperts(OutcomeHead):
    """MMoE: experts that all share, mixed for each outcome by a gate of its own.

    Reference:
        Ma et al. (2018), "Modeling Task Relationships in Multi-task Learning with Multi-gate
        Mixture-of-Experts", Eq. 6 and 7.
    """

    def read(self, x: jax.Array, keys: jax.Array | None) -> list[jax.Array]:
        """Returns a mixture float [B, W] for each outcome."""
        experts = self.experts(x, self.config.num_experts, "expert", 0, keys)
        return [self.mix(x, experts, f"gate_{k}") for k in range(self.config.num_outcomes)]


class LayeredExtraction(OutcomeHead):
    """PLE: experts of each outcome beside shared ones, in levels; a gate sees its own and shared.

    Shared experts of a level read a mixture of all experts of the level before.

    Reference:
        Tang et al. (2020), "Progressive Layered Extraction (PLE)", Sec. 4.2.
    """

    def read(self, x: jax.Array, keys: jax.Array | None) -> list[jax.Array]:
        """Returns a mixture float [B, W] for each outcome."""
        own, shared = [x] * self.config.num_outcomes, x
        for level in range(self.config.num_levels):
            groups = self._experts_of(level, [*own, shared], keys)
            own = [
                self.mix(x, jnp.concatenate([group, groups[-1]], axis=1), f"level_{level}_gate_{k}")
                for k, (x, group) in enumerate(zip(own, groups[:-1], strict=True))
            ]
            if level + 1 < self.config.num_levels:  # nobody reads what the last one shares
                everything = jnp.concatenate(groups, axis=1)
                shared = self.mix(shared, everything, f"level_{level}_gate_shared")
        return own

    def _experts_of(
        self, level: int, read: list[jax.Array], keys: jax.Array | None
    ) -> list[jax.Array]:
        """The experts' outputs float [B, E, W] for each outcome, and last the shared ones'."""
        count = self.config.num_experts
        return [
            self.experts(
                x, count, f"level_{level}_expert_{k}", (level * len(read) + k) * count, keys
            )
            for k, x in enumerate(read)
        ]


class EntireSpace(OutcomeHead):
    """ESMM: outcomes that need the one before (click, cart, purchase), learned from all rows.

    Towers say how likely outcome k is where k - 1 came; rows where it did not come teach the
    product only, so that there is no bias of selection. Outcomes share the field vectors.

    Reference:
        Ma et al. (2018), "Entire Space Multi-Task Model", Eq. 2 and 4.
    """

    def read(self, x: jax.Array, keys: jax.Array | None) -> list[jax.Array]:
        """Returns a tower's output float [B, W] for each outcome."""
        experts = self.experts(x, self.config.num_outcomes, "bottom", 0, keys)
        return list(jnp.moveaxis(experts, 1, 0))

    def combine(self, logits: jax.Array) -> jax.Array:
        """Returns the log-odds float32 [B, K] of the products of probabilities up to each."""
        whole = [logits[:, 0]]
        for given in logits.T[1:]:
            before = whole[-1]
            against = jnp.stack([-before, -given, -before - given])
            whole.append(-jax.nn.logsumexp(against, axis=0))
        return jnp.stack(whole, axis=1)


class InformationTransfer(OutcomeHead):
    """AITM: each of ordered outcomes attends to what the one before hands over, and to its own.

    Training adds a loss wherever an outcome is held likelier than the one before it (see
    `recjax.tasks.row_outcomes`).

    Reference:
        Xi et al. (2021), "Modeling the Sequential Dependence among Audience Multi-step Conversions
        with Multi-task Learning in Targeted Display Advertising", Eq. 3 to 6.
    """

    def read(self, x: jax.Array, keys: jax.Array | None) -> list[jax.Array]:
        """Returns a vector float [B, W] for each outcome."""
        experts = self.experts(x, self.config.num_outcomes, "bottom", 0, keys)
        vectors = [experts[:, 0]]
        for number in range(1, self.config.num_outcomes):
            handed = nn.relu(dense(self.config, experts.shape[-1], f"info_{number}")(vectors[-1]))
            vectors.append(self._attend(jnp.stack([handed, experts[:, number]], axis=1), number))
        return vectors

    def _attend(self, pair: jax.Array, number: int) -> jax.Array:
        """Mixes a pair [B, 2, W] by its own products of keys and queries, float [B, W]."""
        width = pair.shape[-1]
        value, key, query = (
            dense(self.config, width, f"{name}_{number}", use_bias=False)(pair)
            for name in ("value", "key", "query")
        )
        scores = (key * query).astype(jnp.float32).sum(axis=-1) * width**-0.5
        shares = nn.softmax(scores, axis=1).astype(pair.dtype)
        return jnp.einsum("bp,bpw->bw", shares, value)
