"""Which logical axis of a parameter lies along which axis of the mesh; the one place that says so.

Models name their axes ("vocab" of items, "words", "embed", "mlp", "heads", "kv", and "batch" of
activations); this table maps the names. The item table is cut by rows over `fsdp` x `tensor`: its
axis of the mesh is both. Optimizer moments lie as their parameter does, found by the end of their
path. A leading member axis is never cut. A dimension that does not divide stays whole, except for
the item table, which would then fill every device: that is refused.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Tree = Any
Names = tuple[str | None, ...]

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")
TABLE_AXES = ("fsdp", "tensor")
RULES: Mapping[str, tuple[str, ...]] = {
    "batch": BATCH_AXES,
    "vocab": TABLE_AXES,
    "words": (),
    "embed": ("fsdp",),
    "mlp": ("tensor",),
    "heads": ("tensor",),
    "kv": (),
}
LARGE_CONSTANT_BYTES = 16 << 20  # a constant from this size on is cut like the item table


def mesh_axes(mesh: Mesh, name: str | None) -> tuple[str, ...]:
    """Returns the axes of the mesh that a logical axis lies along, those of size 1 left out."""
    wanted = RULES[name] if name is not None else ()
    return tuple(axis for axis in wanted if mesh.shape.get(axis, 1) > 1)


def flax_rules(mesh: Mesh) -> tuple[tuple[str, tuple[str, ...] | None], ...]:
    """Returns the table as Flax wants it, for `flax.linen.logical_axis_rules`."""
    return tuple((name, mesh_axes(mesh, name) or None) for name in RULES)


def parameter_spec(mesh: Mesh, names: Names, shape: tuple[int, ...]) -> PartitionSpec:
    """Returns how one parameter without member axis is cut.

    With one axis named (biases, norms, small tables) it stays whole, except along "vocab": a few
    hundred floats are not worth a collective.

    Args:
        mesh: whose axes are used, each at most once per parameter.
        names: logical name of each axis.
        shape: of the parameter, as long as `names`.

    Raises:
        ValueError: when the rows of an item table do not divide over its axes.
    """
    if "vocab" not in names and sum(name is not None for name in names) < 2:
        return PartitionSpec()
    used: set[str] = set()
    spec: list[tuple[str, ...] | None] = []
    for name, size in zip(names, shape, strict=True):
        axes = tuple(axis for axis in mesh_axes(mesh, name) if axis not in used)
        count = math.prod(mesh.shape[axis] for axis in axes)
        if size % count and name == "vocab":
            raise ValueError(_uneven_table(size, axes, count))
        axes = () if size % count else axes
        used |= set(axes)
        spec.append(axes or None)
    return PartitionSpec(*spec)


def place(mesh: Mesh, logical: Tree, tree: Tree) -> Tree:
    """Returns the sharding of every leaf of a state, or of any tree made of parameters.

    Args:
        mesh: where the tree lies.
        logical: tree of `PartitionSpec` of logical names, one per parameter (`task.logical_axes`).
        tree: leaves [M, ...]; those whose path ends with a parameter's path and whose shape is the
            parameter's, or the parameter's without one axis (factored moments), follow it; all
            others are whole on every device.

    Returns:
        A tree of `NamedSharding` like `tree`.
    """
    parameters = {path: tuple(spec) for path, spec in _paths(logical, is_leaf=_is_spec)}
    leaves = [(_owner(path, parameters), leaf) for path, leaf in _paths(tree)]
    shapes = {
        owner: leaf.shape[1:]
        for owner, leaf in leaves
        if owner is not None and leaf.ndim == len(parameters[owner]) + 1
    }

    def spec_of(owner: tuple[str, ...] | None, shape: tuple[int, ...]) -> PartitionSpec:
        if owner is None or owner not in shapes:
            return PartitionSpec()
        names = _names_of(parameters[owner], shapes[owner], shape[1:])
        return PartitionSpec(None, *parameter_spec(mesh, names, shape[1:])) if names else _WHOLE

    placed = [NamedSharding(mesh, spec_of(owner, leaf.shape)) for owner, leaf in leaves]
    return jax.tree.unflatten(jax.tree.structure(tree), placed)


def place_constants(mesh: Mesh, constants: Tree) -> Tree:
    """Returns the shardings of constants by item id [V, ...]: cut where large, else whole."""
    axes = mesh_axes(mesh, "vocab")
    count = math.prod(mesh.shape[axis] for axis in axes)

    def one(leaf: Any) -> NamedSharding:
        large = leaf.size * leaf.dtype.itemsize >= LARGE_CONSTANT_BYTES
        if axes and leaf.ndim and large and leaf.shape[0] % count == 0:
            return NamedSharding(mesh, PartitionSpec(axes))
        return NamedSharding(mesh, _WHOLE)

    return jax.tree.map(one, constants)


_WHOLE = PartitionSpec()


def _names_of(names: Names, whole: tuple[int, ...], shape: tuple[int, ...]) -> Names:
    """Names of a leaf's axes: all of its parameter's, all but one, or () when it fits neither."""
    if shape == whole:
        return names
    for index in range(len(names)):
        if shape == whole[:index] + whole[index + 1 :]:
            return names[:index] + names[index + 1 :]
    return ()


def _owner(path: tuple[str, ...], parameters: Mapping[tuple[str, ...], Names]) -> Any:
    """Returns the path of the parameter that `path` ends with, or None."""
    return next((path[i:] for i in range(len(path)) if path[i:] in parameters), None)


def _paths(tree: Tree, is_leaf: Any = None) -> Iterator[tuple[tuple[str, ...], Any]]:
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)[0]:
        yield tuple(jax.tree_util.keystr((key,), simple=True) for key in path), leaf


def _is_spec(leaf: Any) -> bool:
    return isinstance(leaf, PartitionSpec)


def _uneven_table(rows: int, axes: tuple[str, ...], count: int) -> str:
    fitting = -(-rows // count) * count
    return (
        f"an item table of {rows:,} rows does not divide over {count} devices "
        f"({' x '.join(axes)}); --config.model.vocab_multiple={count} rounds it up to {fitting:,}"
    )
