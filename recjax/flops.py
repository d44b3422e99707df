"""Floating point operations of a function's matrix products, counted from its jaxpr.

Only these count, as is usual for utilisation: lookups, sums and hand-written kernels do not. The
compiler's own figure does not serve here, since it counts the body of a loop once. Nothing is run
but what says how often a loop runs.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

_BACKWARD_AND_FORWARD = 3  # each product has two more in the backward pass
_Values = Sequence[jax.Array | None]  # of variables; None: only the shape is known


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

    A `fori_loop` counts as often as it runs where its bounds follow from constants and from those
    arguments that are arrays, else once, as any other loop of unknown length; of the branches of a
    condition the longest counts.

    Args:
        function: traced with the arguments.
        arguments: trees of arrays or, where only the shape is to be looked at,
            `jax.ShapeDtypeStruct`.

    Example:
        >>> a, b = jax.ShapeDtypeStruct((2, 3), "float32"), jax.ShapeDtypeStruct((3, 5), "float32")
        >>> forward_flops(lambda a, b: a @ b, a, b)
        60.0
    """
    traced = jax.make_jaxpr(function)(*arguments)
    leaves = [
        None if isinstance(leaf, jax.ShapeDtypeStruct) else leaf
        for leaf in jax.tree.leaves(arguments)
    ]

    @jax.jit  # the compiler leaves out all that the count does not need
    def count(values: _Values) -> Any:
        return _count(traced.jaxpr, traced.consts, values)[0]

    return float(count(leaves))


def _count(jaxpr: Any, constants: _Values, arguments: _Values) -> tuple[Any, _Values]:
    """Returns the operations of a jaxpr and the values of its results as far as they are known."""
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))
    total: Any = 0.0

    def read(atom: Any) -> Any:
        return atom.val if hasattr(atom, "val") else known[atom]

    for equation in jaxpr.eqns:
        flops, results = _count_equation(equation, [read(atom) for atom in equation.invars])
        total += flops
        known.update(zip(equation.outvars, results, strict=True))
    return total, [read(atom) for atom in jaxpr.outvars]


def _count_equation(equation: Any, inputs: _Values) -> tuple[Any, _Values]:
    name, parameters = equation.primitive.name, equation.params
    unknown = [None] * len(equation.outvars)
    if name == "dot_general":
        return _product_flops(equation), unknown
    inner = list(_inner_jaxprs(parameters))
    if not inner:
        return 0.0, _evaluate(equation, inputs)
    if name not in ("while", "scan", "cond", "shard_map") and len(inner) == 1:  # a mere call
        return _count(*inner[0], inputs)
    counts = [_count(jaxpr, constants, [None] * len(jaxpr.invars))[0] for jaxpr, constants in inner]
    if name == "cond":
        return max(counts), unknown
    times: Any = 1
    if name == "scan":
        times = parameters["length"]
    elif name == "while":
        times = _trips(parameters, inputs)
    elif name == "shard_map":  # its body has one device's part
        times = math.prod(parameters["mesh"].shape.values())
    return times * sum(counts), unknown


def _product_flops(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    terms = math.prod(shape[axis] for axis in contracted)
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * terms


def _evaluate(equation: Any, inputs: _Values) -> _Values:
    if any(value is None for value in inputs):
        return [None] * len(equation.outvars)
    results = equation.primitive.bind(*inputs, **equation.params)
    return results if equation.primitive.multiple_results else [results]


def _trips(parameters: dict[str, Any], inputs: _Values) -> Any:
    """How often a `while` runs: known of a `fori_loop`, whose carry starts (index, bound, ...)."""
    condition = parameters["cond_jaxpr"].jaxpr
    carry = inputs[parameters["cond_nconsts"] + parameters["body_nconsts"] :]
    counts_up = [equation.primitive.name for equation in condition.eqns] == ["lt"]
    if not counts_up or condition.eqns[0].invars != condition.invars[:2]:
        return 1
    index, bound = carry[:2]
    return 1 if index is None or bound is None else jax.numpy.maximum(bound - index, 0)


def _inner_jaxprs(parameters: dict[str, Any]) -> Iterator[tuple[Any, _Values]]:
    """Yields jaxpr and constants of what an equation calls (bodies, branches, jitted functions)."""
    for value in jax.tree.leaves(list(parameters.values()), is_leaf=_is_jaxpr):
        if _is_jaxpr(value):
            yield (value.jaxpr, value.consts) if hasattr(value, "jaxpr") else (value, ())


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns")
