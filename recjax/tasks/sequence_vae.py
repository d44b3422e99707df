"""A variational autoencoder of whole users: a latent vector each, decoded item by item.

The decoder reads the events before and the latent vector, and predicts every event of a user, the
first one too. Called by the trainer through the task interface (see `recjax.tasks`), and by the
expand stage, whose strategy `sequence_vae` draws from it.

Reference:
    Bowman et al. (2016), "Generating Sentences from a Continuous Space", Sec. 2 and 3; Sachdeva et
    al. (2019), "Sequential Variational Autoencoders for Collaborative Filtering"; Liang et al.
    (2018), "Variational Autoencoders for Collaborative Filtering", Sec. 2.2.2, for a weight of the
    divergence below 1.
"""

import dataclasses
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp

from recjax.models import ItemBias, LatentInput, Posterior, fold_in_rows, row_uniform
from recjax.tasks import row_draws
from recjax.tasks.encoder_task import ItemTask
from recjax.tasks.parameters import Batch, Params
from recjax.tasks.positions import is_first, take


@dataclasses.dataclass(frozen=True)
class SequenceVae(ItemTask):
    """Reconstruction of users from a latent vector and their earlier events.

    Attributes:
        latent_dim: Z.
        kl_weight: of the divergence from the prior, above 0; 1 is the bound on the likelihood, less
            keeps more of the user in the latent vector.
        history_drop: in training, share of the earlier events that the decoder does not get to
            read, so that it turns to the latent vector; from 0 to below 1.

    Raises:
        ValueError: if a setting is out of range.
    """

    latent_dim: int = 16
    kl_weight: float = 0.2
    history_drop: float = 0.3
    name: ClassVar[str] = "sequence_vae"
    causal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.latent_dim < 1:
            raise ValueError(f"latent_dim must be at least 1, got {self.latent_dim}")
        if not self.kl_weight > 0:
            raise ValueError(f"kl_weight must be above 0, got {self.kl_weight}")
        if not 0 <= self.history_drop < 1:
            raise ValueError(f"history_drop must be from 0 to below 1, got {self.history_drop}")

    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns {"sequence_vae", "divergence": (sum of nats, weight)}, weights as of events.

        Args:
            params: {"encoder", "head"}.
            batch: items, actions, gaps, positions, segments int32 [B, T], weights float32 [B, T].
            constants: item_category int32 [V] where "category" is an input.
            keys: typed PRNG keys [B] for the latent vector, what is dropped and drawn negatives;
                None: the posterior's mean, nothing dropped.
            train: whether dropout is on (static).
        """
        mean, log_variance = self.posterior(params, batch, constants)
        latent = mean if keys is None else _draw_latent(keys, mean, log_variance, batch["segments"])
        hidden = self.decode(params, batch, constants, latent, keys if train else None)
        weights = jnp.where(batch["segments"] > 0, batch["weights"], 0)
        total, weight = self._item_loss(params, hidden, batch["items"], weights, keys)
        divergence = (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance).sum(-1) / 2
        spent = jnp.sum(jnp.where(is_first(batch["segments"]), weights, 0) * divergence)
        return {self.name: (total, weight), "divergence": (self.kl_weight * spent, weight)}

    def posterior(
        self, params: Params, batch: Batch, constants: Batch
    ) -> tuple[jax.Array, jax.Array]:
        """Returns mean and log variance float32 [B, T, Z] of each event's user; see `Posterior`."""
        same = _same_user(batch["segments"]).astype(jnp.float32)
        share = same / jnp.maximum(same.sum(-1, keepdims=True), 1)
        x = self._call_encoder(params, "embed", batch, constants)
        head = {"params": params["head"]["posterior"]}
        return cast(
            tuple[jax.Array, jax.Array],
            Posterior(self.encoder, self.latent_dim).apply(head, x, share),
        )

    def decode(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        latent: jax.Array,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """Returns hidden states float [B, T, D]; that of an event has seen those before it.

        Args:
            params: {"encoder", "head"}.
            batch: items, actions, gaps, positions, segments int32 [B, T].
            constants: item_category int32 [V] where "category" is an input.
            latent: float32 [B, T, Z], of each event's user.
            keys: typed PRNG keys [B] for dropout and for what is dropped, or None.
        """
        x = self._call_encoder(params, "embed", batch, constants)
        x = jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0)))
        unread = is_first(batch["segments"])
        if keys is not None:
            draw = row_uniform(keys, row_draws.DROPPED_EVENTS, unread.shape[1:])
            unread |= draw < self.history_drop
        head = {"params": params["head"]["latent"]}
        given = LatentInput(self.encoder).apply(head, latent)
        x = jnp.where(unread[..., None], 0, x) + cast(jax.Array, given)
        return self._call_encoder(params, "encode", x, batch, True, keys)

    def queries(self, params: Params, batch: Batch, constants: Batch) -> jax.Array:
        """Encodes histories into one query per row, to be ranked against `item_table`.

        Args:
            params: {"encoder", "head"}.
            batch: items, actions, gaps, positions, segments int32 [B, T] (history left-aligned,
                segments 1 on events and 0 after), lengths int32 [B]; latent float32 [B, Z], or none
                for the mean of the history's posterior.
            constants: item_category int32 [V] where "category" is an input.

        Returns:
            float32 [B, D].
        """
        if "latent" in batch:
            latent = batch["latent"]
        else:
            latent = self.posterior(params, batch, constants)[0][:, 0]
        batch, last = _make_room(batch)
        spread = jnp.broadcast_to(latent[:, None], (*batch["items"].shape, self.latent_dim))
        hidden = self.decode(params, batch, constants, spread)
        return take(hidden, last[:, None])[:, 0].astype(jnp.float32)

    def _init_head(self, key: jax.Array) -> Any:
        posterior_key, latent_key = jax.random.split(key)
        config, width = self.encoder, self.encoder.hidden_dim
        events, share = jnp.zeros((1, 2, width)), jnp.zeros((1, 2, 2))
        latent = jnp.zeros((1, 2, self.latent_dim))
        posterior = Posterior(config, self.latent_dim).init(posterior_key, events, share)
        return {
            **ItemBias(config.table_rows).init(key)["params"],
            "posterior": posterior["params"],
            "latent": LatentInput(config).init(latent_key, latent)["params"],
        }


def _same_user(segments: jax.Array) -> jax.Array:
    """Returns bool [B, T, T]: events of one user; False beyond the events."""
    same = segments[:, :, None] == segments[:, None, :]
    return same & (segments > 0)[:, :, None]


def _draw_latent(
    keys: jax.Array, mean: jax.Array, log_variance: jax.Array, segments: jax.Array
) -> jax.Array:
    """Returns float32 [B, T, Z], one draw per user, equal for all of its events."""
    draw = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:]))
    noise = draw(fold_in_rows(keys, row_draws.LATENT))
    first = jnp.argmax(_same_user(segments), axis=-1).astype(jnp.int32)
    return mean + jnp.exp(log_variance / 2) * take(noise, first)


def _make_room(batch: Batch) -> tuple[Batch, jax.Array]:
    """Adds the place that is asked for behind each history; a full row loses its oldest event."""
    length = batch["items"].shape[1]
    full = (batch["lengths"] == length).astype(jnp.int32)
    steps = jnp.arange(length, dtype=jnp.int32)[None]
    names = ("items", "actions", "gaps")
    moved = {name: take(batch[name], steps + full[:, None]) for name in names}
    last = batch["lengths"] - full
    return {
        **moved,
        "positions": jnp.broadcast_to(steps, batch["items"].shape),
        "segments": (steps <= last[:, None]).astype(jnp.int32),
    }, last
