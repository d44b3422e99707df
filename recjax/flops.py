"""Floating point operations of a function's matrix products, counted from its jaxpr, nothing run.

Only these count, as is usual for utilisation: lookups, sums and hand-written kernels do not. The
compiler's own figure does not serve here, since it counts the body of a loop once.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax

_BACKWARD_AND_FORWARD = 3  # each product has two more in the backward pass


def training_flops(loss: Callable[..., Any], *arguments: Any) -> float:
    """Returns the operations of one training step, recomputation left out.

    Args:
        loss: the forward pass.
        arguments: of `loss`, arrays or `jax.ShapeDtypeStruct`.

    Reference:
        Chowdhery et al. (2022), "PaLM", Appendix B (model FLOPs utilisation).
    """
    return _BACKWARD_AND_FORWARD * forward_flops(loss, *arguments)


def forward_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Returns the operations of the matrix products of one call.

    A loop counts as often as it runs where that is known when tracing, else once; of the branches
    of a condition the longest counts.

    Example:
        >>> a, b = jax.ShapeDtypeStruct((2, 3), "float32"), jax.ShapeDtypeStruct((3, 5), "float32")
        >>> forward_flops(lambda a, b: a @ b, a, b)
        60.0
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> float:
    return sum(map(_count_equation, jaxpr.eqns), 0.0)


def _count_equation(equation: Any) -> float:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        terms = math.prod(shape[axis] for axis in contracted)
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * terms
    inner = [_count(jaxpr) for jaxpr in _inner_jaxprs(parameters)]
    if name == "cond":
        return max(inner)
    times = parameters["length"] if name == "scan" else 1
    if name == "shard_map":  # its body has one device's part
        times = math.prod(parameters["mesh"].shape.values())
    return float(times * sum(inner))


def _inner_jaxprs(parameters: Any) -> Iterator[Any]:
    """Yields the jaxprs that an equation calls (loop bodies, branches, jitted functions)."""
    for value in jax.tree.leaves(list(parameters.values()), is_leaf=_is_jaxpr):
        if _is_jaxpr(value):
            yield value.jaxpr if hasattr(value, "jaxpr") else value


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns")
