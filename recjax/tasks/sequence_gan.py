"""An adversarial game over users: a generator continues them, a critic tells them from real ones.

Both players learn in one step, each from its own loss and with the other held still; beside the
game the generator learns the next item of real users, which keeps it from forgetting most of the
catalogue. Called by the trainer through the task interface (see `recjax.tasks`), and by the expand
stage, whose strategy `sequence_gan` draws from the generator.

Reference:
    Goodfellow et al. (2014), "Generative Adversarial Nets", Sec. 3 (the generator's loss is the
    one that does not saturate); Kusner and Hernandez-Lobato (2016), "GANs for sequences of discrete
    elements with the Gumbel-softmax distribution".
"""

import dataclasses
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp

from recjax.losses import CatalogueLoss
from recjax.models import NUM_SPECIALS, Critic, EncoderConfig, ItemBias, ItemReader, fold_in_rows
from recjax.tasks import row_draws
from recjax.tasks.parameters import Batch, Params, WithParams
from recjax.tasks.positions import is_first, is_last, take


@dataclasses.dataclass(frozen=True)
class SequenceGan(WithParams):
    """A generator and a critic of items, parameters {"generator", "critic", "head"}.

    Attributes:
        encoder: for its sizes alone: vocab_size, table_rows, hidden_dim.
        item_loss: of the next item of real users.
        adversarial_weight: of the critic's opinion in the generator's loss, above 0.
        gumbel_temperature: of the softmax that gradients go back through, above 0; less is nearer
            to the hard choice and noisier.

    Raises:
        ValueError: if a setting is out of range.
    """

    encoder: EncoderConfig
    item_loss: CatalogueLoss = CatalogueLoss()
    adversarial_weight: float = 0.1
    gumbel_temperature: float = 1.0
    name: ClassVar[str] = "sequence_gan"
    causal: ClassVar[bool] = True
    held: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name in ("adversarial_weight", "gumbel_temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")

    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns {"next_item", "generator", "critic": (sum of nats, weight)}.

        Args:
            params: {"generator", "critic", "head"}.
            batch: items, segments int32 [B, T], weights float32 [B, T].
            constants: not read.
            keys: typed PRNG keys [B] of drawn items and negatives; None: by the row's content.
            train: not read, there is no dropout.
        """
        del constants, train
        items, starts = batch["items"], is_first(batch["segments"])
        keys = row_draws.content_keys(items) if keys is None else keys
        weights = jnp.where((batch["segments"] > 0) & ~starts, batch["weights"], 0)
        critic, judge = params["critic"], jax.lax.stop_gradient(params["critic"])
        made, seen_as = self.play(params, items, starts, keys, judge["reader"]["table"])
        fooled = jax.nn.softplus(-self._judge(judge, seen_as, starts))
        real, fake = (self._judge(critic, self._see(critic, x), starts) for x in (items, made))
        told = jax.nn.softplus(-real) + jax.nn.softplus(fake)
        return {
            "next_item": self._next_item_loss(params, batch, keys),
            "generator": (self.adversarial_weight * jnp.sum(weights * fooled), weights.sum()),
            "critic": (jnp.sum(weights * told), weights.sum()),
        }

    def play(
        self,
        params: Params,
        items: jax.Array,
        starts: jax.Array,
        keys: jax.Array,
        judge_table: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """Continues each user's first item with items of the generator.

        Args:
            params: {"generator", "critic", "head"}.
            items: int32 [B, T]; those at starts are read.
            starts: bool [B, T], each user's first event.
            keys: typed PRNG keys [B]; row b depends on keys[b] alone.
            judge_table: float32 [R, D], what the critic sees of an item.

        Returns:
            Items int32 [B, T], and their rows of the critic's table float32 [B, T, D], with the
            gradient of a softmax over all.
        """
        table, bias = self.item_table(params)
        variables, reader = {"params": params["generator"]}, self._reader()
        key_of = fold_in_rows(keys, row_draws.PLAYED)

        def step(state: jax.Array, event: tuple[jax.Array, ...]) -> tuple[jax.Array, Any]:
            given, start, place = event
            draw = jax.vmap(lambda k: jax.random.gumbel(jax.random.fold_in(k, place), bias.shape))
            logits = (state @ table.T + bias[None] + draw(key_of)) / self.gumbel_temperature
            soft, drawn = jax.nn.softmax(logits), jnp.argmax(logits, axis=1).astype(jnp.int32)
            item = jnp.where(start, given, drawn)
            soft = jnp.where(start[:, None], 0, soft)
            own, seen = (_straight_through(soft, item, rows) for rows in (table, judge_table))
            fresh = jnp.where(start[:, None], 0, state)
            state = cast(jax.Array, reader.apply(variables, fresh, own, method="step"))
            return state, (item, seen)

        by_time = (items.T, starts.T, jnp.arange(items.shape[1]))
        first = jnp.zeros((len(items), self.encoder.hidden_dim))
        made, seen_as = jax.lax.scan(jax.checkpoint(step), first, by_time)[1]
        return made.T, jnp.swapaxes(seen_as, 0, 1)

    def item_table(self, params: Params) -> tuple[jax.Array, jax.Array]:
        """Returns the generator's output layer: table float32 [R, D] and bias float32 [R].

        Rows that are no items have a bias of -inf: they are neither drawn nor ranked.
        """
        ids, encoder = jnp.arange(self.encoder.table_rows), self.encoder
        is_item = (ids >= NUM_SPECIALS) & (ids < encoder.vocab_size)
        bias = jnp.where(is_item, params["head"]["item_bias"], -jnp.inf)
        return params["generator"]["table"], bias

    def queries(self, params: Params, batch: Batch, constants: Batch) -> jax.Array:
        """Reads histories into one query per row, to be ranked against `item_table`.

        Args:
            params: {"generator", "critic", "head"}.
            batch: items, segments int32 [B, T] (history left-aligned), lengths int32 [B].
            constants: not read.

        Returns:
            float32 [B, D]; zeros for an empty history.
        """
        del constants
        states = self._read(params, batch)
        query = take(states, jnp.maximum(batch["lengths"] - 1, 0)[:, None])[:, 0]
        return jnp.where((batch["lengths"] > 0)[:, None], query, 0)

    def _next_item_loss(
        self, params: Params, batch: Batch, keys: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        follows = (batch["segments"] > 0) & ~is_last(batch["segments"])
        targets, weights = (
            jnp.pad(batch[name][:, 1:], ((0, 0), (0, 1))) for name in ("items", "weights")
        )
        return self.item_loss(
            self._read(params, batch),
            *self.item_table(params),
            targets,
            jnp.where(follows, weights, 0),
            keys=fold_in_rows(keys, row_draws.NEGATIVES),
            num_ids=self.encoder.vocab_size,
        )

    def _read(self, params: Params, batch: Batch) -> jax.Array:
        """States float32 [B, T, D] of the generator after each real event."""
        variables, reader = {"params": params["generator"]}, self._reader()
        x = reader.apply(variables, batch["items"], method="embed")
        states = reader.apply(variables, x, is_first(batch["segments"]), method="read")
        return cast(jax.Array, states)

    def _see(self, critic: Params, items: jax.Array) -> jax.Array:
        return cast(jax.Array, self._critic().apply({"params": critic}, items, method="embed"))

    def _judge(self, critic: Params, x: jax.Array, starts: jax.Array) -> jax.Array:
        return cast(jax.Array, self._critic().apply({"params": critic}, x, starts))

    def _reader(self) -> ItemReader:
        return ItemReader(self.encoder.table_rows, self.encoder.hidden_dim)

    def _critic(self) -> Critic:
        return Critic(self.encoder.table_rows, self.encoder.hidden_dim)

    def _init_boxed(self, key: jax.Array) -> Any:
        keys = jax.random.split(key, 3)
        x, starts = jnp.zeros((1, 2, self.encoder.hidden_dim)), jnp.zeros((1, 2), bool)
        generator = self._reader().init(keys[0], x, starts, method="read")
        return {
            "generator": generator["params"],
            "critic": self._critic().init(keys[1], x, starts)["params"],
            "head": ItemBias(self.encoder.table_rows).init(keys[2])["params"],
        }


def _straight_through(soft: jax.Array, items: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns the rows [B, D] of items int32 [B]; gradients are those of the mean under soft."""
    mean = soft @ rows
    return mean + jax.lax.stop_gradient(jnp.take(rows, items, axis=0, mode="clip") - mean)
