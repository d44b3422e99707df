"""First values of parameters, each with the logical names of its axes.

The names are "vocab", "embed", "mlp", "heads" and "kv"; `recjax.parallel` maps them to mesh axes.
Called by the other modules of `recjax.models`.
"""

from collections.abc import Callable

from flax import linen as nn

TABLE_STDDEV = 0.02
kernel_init = nn.initializers.lecun_normal()
table_init = nn.initializers.normal(TABLE_STDDEV)


def partitioned(init: Callable, names: tuple[str | None, ...]) -> Callable:
    """Returns `init` whose result is boxed with the logical axis names, one per axis."""
    return nn.with_logical_partitioning(init, names)
