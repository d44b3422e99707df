"""One optax transformation out of all settings: L2, clipping, parts by label, depth."""

from dataclasses import replace
from typing import Any

import jax
import optax

from recjax.optim.dense import make_dense, make_scanned
from recjax.optim.masks import (
    decays,
    depth_scales,
    frozen,
    is_statistic,
    is_table,
    path_name,
)
from recjax.optim.rows import add_row_l2, scale_by_row_adagrad, scale_by_row_adam
from recjax.optim.schedules import make_schedule
from recjax.optim.settings import ROW_OPTIMIZERS, OptimizerConfig

Tree = Any

_STATISTICS_RATE = 0.1  # of the way from the running statistic to that of a batch


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Returns the optimizer of one member's parameters.

    In order: gradients of L2 terms, clipping by the global norm of all that trains, then each part
    by its own optimizer (tables, scanned layers, all else; frozen parameters have no state, running
    statistics go a fixed part of their way), then the factor of depth.
    """

    def trains(mask: Any) -> Any:
        return lambda params: jax.tree.map(
            lambda chosen, held: chosen and not held, mask(params), frozen(params, config.freeze)
        )

    dense = make_dense(config.optimizer, make_schedule(config), config)
    parts = {
        "dense": dense,
        "layers": make_scanned(config.optimizer, dense),
        "table": _make_table(config),
        "statistics": optax.scale(-_STATISTICS_RATE),
        "frozen": optax.set_to_zero(),
    }
    chain = []
    if config.l2:
        chain.append(optax.add_decayed_weights(config.l2, mask=trains(decays)))
    if config.table_l2:
        chain.append(optax.masked(add_row_l2(config.table_l2), trains(is_table)))
    if config.clip_norm:
        clip = optax.clip_by_global_norm(config.clip_norm)
        chain.append(optax.masked(clip, _is_learned))
    chain.append(optax.partition(parts, lambda params: _labels(params, config)))
    if config.layer_decay < 1:
        chain.append(_scale_by_depth(config.layer_decay))
    return optax.chain(*chain)


def _make_table(config: OptimizerConfig) -> optax.GradientTransformation:
    """Returns the optimizer of embedding tables."""
    rate = make_schedule(
        replace(config, learning_rate=config.table_learning_rate or config.learning_rate)
    )
    name = config.optimizer if config.table_optimizer == "same" else config.table_optimizer
    if name not in ROW_OPTIMIZERS:
        return make_dense(name, rate, config)
    rows = (
        scale_by_row_adagrad() if name == "adagrad_rows" else scale_by_row_adam(beta2=config.beta2)
    )
    return optax.chain(rows, optax.scale_by_learning_rate(rate))


def _labels(params: Tree, config: OptimizerConfig) -> Tree:
    """Returns which part each parameter belongs to."""

    def one(path: tuple[Any, ...], held: bool, table: bool, statistic: bool) -> str:
        if held:
            return "frozen"
        if table or statistic:
            return "table" if table else "statistics"
        return "layers" if "layers" in path_name(path).split("/") else "dense"

    masks = frozen(params, config.freeze), is_table(params), is_statistic(params)
    return jax.tree_util.tree_map_with_path(one, *masks)


def _is_learned(params: Tree) -> Tree:
    """Tells the parameters whose gradient is of the loss."""
    return jax.tree.map(lambda statistic: not statistic, is_statistic(params))


def _scale_by_depth(decay: float) -> optax.GradientTransformation:
    def scale(updates: Tree, params: Tree = None) -> Tree:
        del params
        return jax.tree.map(lambda u, s: u * s, updates, depth_scales(updates, decay))

    return optax.stateless(scale)
