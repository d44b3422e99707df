"""What the tasks share: an encoder, parameters {"encoder", "head"}, tied output logits."""

import abc
import dataclasses
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp

from recjax.losses import CatalogueLoss
from recjax.models import DenseHead, EncoderConfig, EventEncoder, ItemBias, fold_in_rows
from recjax.tasks import row_draws
from recjax.tasks.adaptation import Adaptation, init_adapt
from recjax.tasks.parameters import Batch, Params, WithParams, init_encoder


@dataclasses.dataclass(frozen=True)
class EncoderTask(WithParams):
    """A task with an encoder; subclasses add the head and the loss.

    Parameters are {"encoder", "head"}, and with a method of `adapt` "adapt" beside them.

    Attributes:
        encoder: sizes and settings of the encoder.
        adapt: whether and how new parameters, under "adapt", learn in the encoder's place.
        name: of the task, and of its loss.
        whole_batch: whether rows are compared with each other, on all devices.
    """

    encoder: EncoderConfig
    adapt: Adaptation = dataclasses.field(default=Adaptation(), kw_only=True)
    name: ClassVar[str]
    whole_batch: ClassVar[bool] = False

    @property
    def held(self) -> tuple[str, ...]:
        """Rules (see `recjax.optim.frozen`) of parameters that the task itself holds still."""
        return self.adapt.held

    def encode(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        causal: bool,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """Embeds and encodes a batch of sequences -> hidden states float [B, T, D]."""
        x = self._call_encoder(params, "embed", batch, constants)
        return self._call_encoder(params, "encode", x, batch, causal, keys)

    def encoder_params(self, params: Params) -> Params:
        """Returns the parameters that the encoder is applied with; low-rank pairs are merged."""
        if self.adapt.method == "none":
            return params["encoder"]
        return self.adapt.merge(params["encoder"], params["adapt"])

    def _call_encoder(self, params: Params, method: str, *arguments: Any) -> jax.Array:
        variables = {"params": self.encoder_params(params)}
        return cast(
            jax.Array,
            EventEncoder(self.adapt.extend(self.encoder)).apply(
                variables, *arguments, method=method
            ),
        )

    def _init_boxed(self, key: jax.Array) -> Any:
        encoder_key, head_key = jax.random.split(key)
        encoder = init_encoder(self.encoder, encoder_key)
        params = {
            "encoder": encoder,
            "head": self._init_head(head_key),
            **self._init_towers(jax.random.fold_in(key, 2)),
        }
        if self.adapt.method == "none":
            return params
        return params | {"adapt": init_adapt(self.adapt, self.encoder, encoder, encoder_key)}

    def _init_towers(self, key: jax.Array) -> Params:
        """Returns boxed parameters of more encoders by name, which a mixture's objectives share."""
        del key
        return {}

    @abc.abstractmethod
    def loss(
        self,
        params: Params,
        batch: Batch,
        constants: Batch,
        *,
        keys: jax.Array | None,
        train: bool,
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns {name: (sum, weight)}; see the subclasses."""

    @abc.abstractmethod
    def _init_head(self, key: jax.Array) -> Any:
        """Returns boxed parameters of the head."""


@dataclasses.dataclass(frozen=True)
class DenseHeadTask(EncoderTask):
    """A task with one dense layer on top of the encoder."""

    @abc.abstractmethod
    def _head_width(self) -> int:
        """Returns the outputs of the layer."""

    def _apply_head(self, params: Params, x: jax.Array) -> jax.Array:
        """Maps hidden states or summaries float [..., D] to float32 [..., head width]."""
        return cast(jax.Array, self._head().apply({"params": params["head"]}, x))

    def _head(self) -> DenseHead:
        return DenseHead(self.encoder, self._head_width())

    def _init_head(self, key: jax.Array) -> Any:
        return self._head().init(key, jnp.zeros((1, self.encoder.hidden_dim)))["params"]


@dataclasses.dataclass(frozen=True)
class ItemTask(EncoderTask):
    """A task that predicts items by tied output logits, hidden @ item table^T + bias.

    Attributes:
        item_loss: full or sampled, and its settings.
    """

    item_loss: CatalogueLoss = CatalogueLoss()

    def item_table(self, params: Params) -> tuple[jax.Array, jax.Array]:
        """Returns the output layer: table float32 [V, D] and bias float32 [V].

        Rows beyond the vocabulary (see `EncoderConfig.vocab_multiple`) have a bias of -inf: they
        take no part in a softmax and are never ranked.
        """
        table, bias = params["encoder"]["embedding"]["item"]["table"], params["head"]["item_bias"]
        if self.encoder.table_rows > self.encoder.vocab_size:
            ids = jnp.arange(self.encoder.table_rows)
            bias = jnp.where(ids < self.encoder.vocab_size, bias, -jnp.inf)
        return table, bias

    def _init_head(self, key: jax.Array) -> Any:
        return ItemBias(self.encoder.table_rows).init(key)["params"]

    def _item_loss(
        self,
        params: Params,
        hidden: jax.Array,
        targets: jax.Array,
        weights: jax.Array,
        keys: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array]:
        """The loss of targets [B, S] over the catalogue, given hidden [B, S, D].

        Without keys, negatives are drawn by a row's targets, always in the same way.
        """
        keys = row_draws.content_keys(targets) if keys is None else keys
        return self.item_loss(
            hidden,
            *self.item_table(params),
            targets,
            weights,
            keys=fold_in_rows(keys, row_draws.NEGATIVES),
            num_ids=self.encoder.vocab_size,
        )
