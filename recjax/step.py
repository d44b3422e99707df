"""Train state and the pure train step; members (seeds) are a leading axis of every leaf.

The step knows no files, no time and no mesh. Every random number comes from (member seed, step,
global row), so that engines and device counts see the same numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from recjax.gradients import compute_gradients

Tree = Any

# constants with a leading member axis; all others are shared
MEMBER_CONSTANTS = ("teacher", "fresh")

CompiledStep = Callable[["TrainState", Tree, Tree], tuple["TrainState", dict[str, jax.Array]]]


class Task(Protocol):
    """What the step needs of a task; see `recjax.tasks`."""

    @property
    def held(self) -> tuple[str, ...]:
        """Returns rules of parameters that the task itself holds still."""

    def init(self, key: jax.Array, batch: Any) -> Any:
        """Returns fresh parameters of one member."""

    def logical_axes(self) -> Any:
        """Returns a tree of `PartitionSpec` of logical axis names, one per parameter."""

    def loss(
        self, params: Any, batch: Any, constants: Any, *, keys: jax.Array | None, train: bool
    ) -> Any:
        """Returns {name: (sum, weight)} of one member, no member axis anywhere."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """All that training needs to go on.

    Attributes:
        step: int32 scalar, steps taken.
        seeds: uint32 [M].
        params: tree of [M, ...].
        opt_state: tree of [M, ...].
        active: bool [M], False for members that stopped early.
        best_params: tree of [M, ...], the parameters at the best evaluation.
        best_metric: float32 [M], higher is better, -inf before the first evaluation.
        evals_without_gain: int32 [M].
        average: tree of [M, ...], the moving average of the parameters, which is what is judged
            and kept as best; None where there is none.
    """

    step: jax.Array
    seeds: jax.Array
    params: Tree
    opt_state: Tree
    active: jax.Array
    best_params: Tree
    best_metric: jax.Array
    evals_without_gain: jax.Array
    average: Tree = None

    @property
    def judged_params(self) -> Tree:
        """Parameters that evaluations look at."""
        return self.params if self.average is None else self.average


def create_state(
    params: Tree,
    seeds: jax.Array,
    *,
    optimizer: optax.GradientTransformation,
    averages: bool = False,
) -> TrainState:
    """Returns the state before the first step.

    Args:
        params: tree of [M, ...].
        seeds: uint32 [M].
        optimizer: of one member.
        averages: whether a moving average is kept (static).
    """
    members = seeds.shape[0]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        seeds=seeds,
        params=params,
        opt_state=jax.vmap(optimizer.init)(params),
        active=jnp.ones(members, bool),
        best_params=jax.tree.map(jnp.copy, params),
        best_metric=jnp.full(members, -jnp.inf, jnp.float32),
        evals_without_gain=jnp.zeros(members, jnp.int32),
        average=jax.tree.map(jnp.copy, params) if averages else None,
    )


def make_train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    axis_name: str | None,
    *,
    frozen: Callable[[Tree], Tree] | None = None,
    ema_decay: float = 0.0,
    accumulate_steps: int = 1,
    surgery: bool = False,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """Returns step(state, batch, constants) -> (state, metrics).

    Args:
        task: gives the loss of one member.
        optimizer: applied to each member by itself.
        axis_name: the mapped axis to sum over, None where the compiler does it.
        frozen: params -> tree of bools, True where no gradient is asked for; None: nowhere.
        ema_decay: of the moving average of parameters, where the state has one.
        accumulate_steps: parts of a batch's rows that are worked on one after another, for the
            same update; see `compute_gradients`.
        surgery: whether losses' gradients that work against each other lose that part.

    Returns:
        A pure function; batch leaves are [M, B, ...] with `row` int32 [M, B], the global row.
        Constants are a dict; those that `MEMBER_CONSTANTS` names have a leading member axis.
        Metrics are float32 [M] by name; losses are per weight.
    """

    def member_step(
        params: Tree,
        opt_state: Tree,
        seed: jax.Array,
        batch: Tree,
        step: jax.Array,
        constants: Tree,
    ) -> tuple[Tree, Tree, dict[str, jax.Array]]:
        def losses(params: Tree, part: Tree) -> Any:
            if frozen is not None:
                params = jax.tree.map(_held, frozen(params), params)
            keys = row_keys(seed, step, part["row"])
            return task.loss(params, part, constants, keys=keys, train=True)

        grads, means = compute_gradients(
            losses,
            params,
            batch,
            parts=accumulate_steps,
            axis_name=axis_name,
            surgery=surgery,
        )
        updates, opt_state = optimizer.update(grads, opt_state, params)
        metrics = {f"train/{name}": value for name, value in means.items()}
        metrics["train/loss"] = jnp.sum(jnp.stack(list(means.values())))
        metrics["train/grad_norm"] = optax.tree.norm(grads)
        return optax.apply_updates(params, updates), opt_state, metrics

    def step(state: TrainState, batch: Tree, constants: Tree) -> tuple[TrainState, Tree]:
        axes = {name: 0 if name in MEMBER_CONSTANTS else None for name in constants}
        params, opt_state, metrics = jax.vmap(member_step, in_axes=(0, 0, 0, 0, None, axes))(
            state.params, state.opt_state, state.seeds, batch, state.step, constants
        )
        params = select_members(state.active, params, state.params)
        opt_state = select_members(state.active, opt_state, state.opt_state)
        average = state.average
        if average is not None:
            moved = moving_average(average, params, state.step, ema_decay)
            average = select_members(state.active, moved, average)
        new = replace(
            state, step=state.step + 1, params=params, opt_state=opt_state, average=average
        )
        return new, metrics

    return step


def record_evaluation(state: TrainState, metric: jax.Array, *, patience: int) -> TrainState:
    """Keeps the best parameters per member and stops members that no longer gain.

    Args:
        state: before the evaluation.
        metric: float32 [M], higher is better.
        patience: evaluations without gain before a member stops, static; 0 = never.

    Returns:
        The state with best parameters, counters and `active` updated.
    """
    better = (metric > state.best_metric) & state.active
    waited = jnp.where(better, 0, state.evals_without_gain + state.active.astype(jnp.int32))
    return replace(
        state,
        active=state.active & (waited < patience) if patience else state.active,
        best_params=select_members(better, state.judged_params, state.best_params),
        best_metric=jnp.where(better, metric, state.best_metric),
        evals_without_gain=waited,
    )


def moving_average(average: Tree, params: Tree, step: jax.Array, decay: float) -> Tree:
    """Moves the average towards the parameters; in the first steps faster than `decay` says.

    The decay of step t is min(decay, (1 + t) / (10 + t)), so that short trainings, too, leave their
    start behind.

    Args:
        average: tree of [M, ...].
        params: tree of [M, ...], after the step.
        step: int32 scalar, steps taken before.
        decay: in [0, 1) (static).

    Reference:
        Polyak & Juditsky (1992), "Acceleration of Stochastic Approximation by Averaging".
    """
    share = 1 - jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, p: a + share.astype(a.dtype) * (p - a), average, params)


def row_keys(seed: jax.Array, step: jax.Array, row: jax.Array) -> jax.Array:
    """Returns one key per global row [B] from (seed, step, row)."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, row)


def select_members(mask: jax.Array, new: Tree, old: Tree) -> Tree:
    """Takes `new` where mask [M] is True; leaves are [M, ...]."""
    return jax.tree.map(
        lambda a, b: jnp.where(mask.reshape(-1, *(1,) * (a.ndim - 1)), a, b), new, old
    )


def _held(frozen: bool, leaf: jax.Array) -> jax.Array:
    return jax.lax.stop_gradient(leaf) if frozen else leaf
