"""What the axes of a kernel mean, for whoever must treat it as matrices.

Called by `recjax.optim` (Muon) and `recjax.tasks` (low-rank pairs).
"""

from typing import NamedTuple


class KernelAxes(NamedTuple):
    """Axes of a kernel: `stack` counts matrices, each from `inputs` to `outputs`."""

    stack: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def kernel_axes(path: str, ndim: int) -> KernelAxes | None:
    """Tells the axes of a kernel by its path and its number of axes.

    Args:
        path: names from the root joined by "/"; under "layers" the first axis is the layer's.
        ndim: axes without member axis. Two: [in, out]; three: [H, D, out] (attention's output);
            four: [in, n, H, D] (n matrices: query, key and value; HSTU's four).

    Returns:
        The axes, or None for what is no stack of matrices.

    Example:
        >>> kernel_axes("encoder/layers/mlp_in/kernel", 3)
        KernelAxes(stack=(0,), inputs=(1,), outputs=(2,))
    """
    scanned = int("layers" in path.split("/"))
    layouts = {
        2: KernelAxes((), (0,), (1,)),
        3: KernelAxes((), (0, 1), (2,)),
        4: KernelAxes((1,), (0,), (2, 3)),
    }
    if ndim - scanned not in layouts:
        return None
    moved = (tuple(axis + scanned for axis in axes) for axes in layouts[ndim - scanned])
    stack, inputs, outputs = moved
    return KernelAxes((*range(scanned), *stack), inputs, outputs)
