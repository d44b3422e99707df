"""Devices: the mesh, where arrays lie on it, and the two engines that compile a step.

`jit` over a named mesh is the path; `pmap` stands behind the same interface for those who need it
(data axis only). Nothing here knows tasks, models or files.
"""

from recjax.parallel.jit_engine import JitEngine
from recjax.parallel.mesh import make_mesh
from recjax.parallel.pmap_engine import PmapEngine

Engine = JitEngine | PmapEngine


def make_engine(name: str, mesh_axes: dict[str, int]) -> Engine:
    """Returns the engine by name ("jit" or "pmap") over the mesh.

    Raises:
        ValueError: for an unknown name, or for pmap with another axis than data.
    """
    if name == "jit":
        return JitEngine(make_mesh(mesh_axes))
    if name == "pmap":
        return PmapEngine(make_mesh(mesh_axes))
    raise ValueError(f"parallel.engine = {name!r} is unknown; known: jit, pmap")


__all__ = ["Engine", "JitEngine", "PmapEngine", "make_engine", "make_mesh"]
