"""First values of parameters, each with the logical names of its axes.

The names are "vocab" (items), "words", "embed", "mlp", "heads" and "kv"; `recjax.parallel` maps
them to mesh axes.
Called by the other modules of `recjax.models`.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from flax import struct

TABLE_STDDEV = 0.02
kernel_init = nn.initializers.lecun_normal()
table_init = nn.initializers.normal(TABLE_STDDEV)


@struct.dataclass
class Named(nn.LogicallyPartitioned):
    """A parameter with the logical names of its axes, which Flax only carries along.

    Flax would constrain the value wherever a mesh is in force, in `DenseGeneral` at a moment when
    the kernel does not have its axes yet.
    """

    def unbox(self, apply_constraint: bool = False) -> Any:
        """Returns the value as it is."""
        del apply_constraint
        return self.value


def partitioned(init: Callable[..., jax.Array], names: tuple[str | None, ...]) -> Callable:
    """Returns `init` whose result [...] is boxed with the logical axis names, one per axis."""

    def named(*arguments: Any, **settings: Any) -> Named:
        return Named(init(*arguments, **settings), names)

    return named
