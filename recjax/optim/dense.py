"""The optimizers of dense parts, by name; all of optax, made to mean the same by a setting."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from optax import contrib

from recjax.models.kernels import kernel_axes
from recjax.optim.masks import decays, path_name
from recjax.optim.settings import OptimizerConfig

Tree = Any

_MUON_RMS = 0.2  # makes Muon's updates as large as Adam's, so that they share a learning rate
_BY_LAYER = ("lamb", "adafactor")  # their update of a matrix depends on the whole of it


def make_dense(
    name: str, rate: optax.Schedule, config: OptimizerConfig
) -> optax.GradientTransformation:
    """Returns an optimizer by name, with its learning rate and decoupled weight decay.

    Args:
        name: one of `recjax.optim.settings.OPTIMIZERS`.
        rate: learning rate by step.
        config: weight_decay and beta2 are read.

    Reference:
        Loshchilov & Hutter (2019) AdamW; You et al. (2020) LAMB; Shazeer & Stern (2018) Adafactor;
        Chen et al. (2023) Lion; Jordan et al. (2024) Muon, its updates sized as by Liu et al.
        (2025), "Muon is Scalable for LLM Training", Eq. 4.
    """
    b2, decay = config.beta2, config.weight_decay
    makers: dict[str, Callable[[], optax.GradientTransformation]] = {
        "adamw": lambda: optax.adamw(rate, b2=b2, weight_decay=decay, mask=decays),
        "adam": lambda: optax.adam(rate, b2=b2),
        "sgd": lambda: optax.sgd(rate, momentum=0.9),
        "lamb": lambda: optax.lamb(rate, b2=b2, weight_decay=decay, mask=decays),
        "adafactor": lambda: _adafactor(rate, decay),
        "lion": lambda: optax.lion(rate, b2=b2, weight_decay=decay, mask=decays),
        "muon": lambda: contrib.muon(
            rate,
            weight_decay=decay,
            adam_b2=b2,
            consistent_rms=_MUON_RMS,
            muon_weight_dimension_numbers=_muon_matrices,
        ),
    }
    return makers[name]()


def make_scanned(name: str, dense: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns the optimizer for layers on a leading axis [L, ...]: each layer for itself.

    Element by element it makes no difference; LAMB's trust ratio and Adafactor's clipping are of
    a layer's matrix, not of a stack of them.
    """
    if name not in _BY_LAYER:
        return dense

    def init(params: Tree) -> Tree:
        return jax.vmap(dense.init)(params) if jax.tree.leaves(params) else dense.init(params)

    def update(grads: Tree, state: Tree, params: Tree = None) -> tuple[Tree, Tree]:
        by_layer = jax.vmap(dense.update) if jax.tree.leaves(grads) else dense.update
        return by_layer(grads, state, params)

    return optax.GradientTransformation(init, update)


def _adafactor(rate: optax.Schedule, decay: float) -> optax.GradientTransformation:
    """Adafactor that decays by the learning rate times `decay`; optax leaves the rate out."""
    return optax.chain(
        optax.adafactor(learning_rate=None),
        optax.add_decayed_weights(-decay, mask=decays),
        optax.scale_by_schedule(rate),
    )


def _muon_matrices(params: Tree) -> Tree:
    """Tells Muon the matrices in each kernel; None leaves a parameter to Adam."""

    def one(path: tuple[Any, ...], leaf: Any) -> contrib.MuonDimensionNumbers | None:
        name = path_name(path)
        axes = kernel_axes(name, leaf.ndim) if name.endswith("kernel") else None
        return axes and contrib.MuonDimensionNumbers(axes.inputs, axes.outputs)

    return jax.tree_util.tree_map_with_path(one, params)
