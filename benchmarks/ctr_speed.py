"""Rows a second of click-through training beside PyTorch, and the memory of large tables.

    python benchmarks/ctr_speed.py [--quick] [--output FILE]

`step` rows: DeepFM and DCNv2 of Frappe's size, and DeepFM over a large table, trained from a table
of rows in memory, batches drawn at random, the same optimizer (Adam on all rows; `adam_rows` and
SparseAdam, which leave idle rows alone). recjax goes through its own loader and engine; PyTorch
(see `torch_ctr.py`) cuts batches out of tensors, with no loader, plain and through `torch.compile`
(not with SparseAdam: it cannot compile sparse gradients); FuxiCTR has only Adam on all rows.
Sides take turns on one core (`turns.py`). `memory` rows: bytes of each of eight devices that the
compiled training step of a table cut over them needs, by the compiler, nothing allocated; `took`
says that such a step was also run, on eight host devices.

PyTorch and FuxiCTR are looked for in this Python (`pip install torch fuxictr`); without them their
columns are null.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from records import Row, make_parser, write_record
from turns import take_turns

LEARNING_RATE = 1e-3
NUM_ROWS = 200_000  # of the table that batches are drawn from
SIDES = ("recjax", "torch", "torch_compiled", "fuxictr")
_TURNS = {"warm_up": 3, "steps": 4, "rounds": 7}
_FEW_TURNS = {"warm_up": 2, "steps": 2, "rounds": 3}  # of slow steps, and of quick sizes
_MOST_ROWS_RUN = 10_000_000  # tables cut over eight devices of one machine that are trained a step
NOTE = (
    "rows_per_second include drawing the batch out of a table in memory; for recjax and FuxiCTR by "
    "their loaders, FuxiCTR's without worker processes and with its clipping of gradients."
)


@dataclasses.dataclass(frozen=True)
class Workload:
    """Sizes of one training."""

    head: str
    table_rows: int = 5_400
    fields: int = 10
    dim: int = 10
    hidden_dims: tuple[int, ...] = (400, 400, 400)
    cross_layers: int = 3
    batch: int = 4096
    table_optimizer: str = "same"  # as of the rest, Adam


def make_workloads(quick: bool) -> Iterator[Workload]:
    """Yields the sizes to measure."""
    small: dict[str, Any] = {"hidden_dims": (16,), "batch": 256} if quick else {}
    yield Workload("deepfm", **small)
    yield Workload("dcnv2", **small)
    rows = 100_000 if quick else 10_000_000
    yield Workload("deepfm", table_rows=rows, table_optimizer="adam_rows", **small)


def make_rows(work: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids int32 [N, F], each field with rows of its own, by Zipf's law; labels [N]."""
    rng, size = np.random.default_rng(0), work.table_rows // work.fields
    places = np.exp(rng.uniform(0, np.log(size), (NUM_ROWS, work.fields))).astype(np.int64) - 1
    ids = places + size * np.arange(work.fields)
    return ids.astype(np.int32), (rng.uniform(size=NUM_ROWS) < 0.3).astype(np.float32)


# recjax ------------------------------------------------------------------------------------------


def make_training(work: Workload, mesh: dict[str, int]) -> tuple[Any, Any, Any]:
    """Returns the engine, the logical axes and the recipe of a training."""
    from ml_collections import ConfigDict

    from configs import default
    from recjax.models.ctr import CtrConfig
    from recjax.parallel import make_engine
    from recjax.recipe import make_recipe
    from recjax.tasks import RowClick

    model = CtrConfig(
        head=work.head,
        num_rows=work.table_rows,
        slots=(1,) * work.fields,
        embedding_dim=work.dim,
        hidden_dims=work.hidden_dims,
        num_cross_layers=work.cross_layers,
    )
    settings: ConfigDict = default.get_config().finetune.row_click
    settings.update(optimizer="adam", learning_rate=LEARNING_RATE, schedule="constant")
    settings.update(warmup_steps=0, clip_norm=0.0, beta2=0.999, num_steps=1000)
    settings.table_optimizer = work.table_optimizer
    task = RowClick(model)
    return make_engine("jit", mesh), task.logical_axes(), make_recipe(task, settings, None)


def recjax_stepper(work: Workload) -> Callable[[], None]:
    """A function that takes the next batch from the loader and trains on it."""
    import jax
    import jax.numpy as jnp

    from recjax.data.prepare_rows import RowSource
    from recjax.data.row_batches import RowTrainBatches

    folder = Path(tempfile.mkdtemp())
    for name, array in zip(("ids", "label"), make_rows(work), strict=True):
        np.save(folder / f"{name}.npy", array)
    engine, logical, recipe = make_training(work, {"data": -1})
    batches = iter(RowTrainBatches(RowSource(folder), batch_size=work.batch, seeds=(0,)))
    seeds = jnp.zeros(1, jnp.uint32)
    params = engine.compile_once(recipe.init_params, logical)(seeds)
    state = engine.compile_once(recipe.create, logical)(params, seeds)
    step = engine.compile_step(recipe.step, logical)
    constants = engine.put_constants({})
    del params

    def take_step() -> None:
        nonlocal state
        state, metrics = step(state, engine.put_member_batch(next(batches)), constants)
        jax.block_until_ready(metrics)

    return take_step


def measure_cut_tables(quick: bool) -> list[Row]:
    """Returns the rows of tables cut over eight devices, from a process that has them."""
    sizes = (10_000, 100_000) if quick else (1_000_000, 10_000_000, 100_000_000)
    context = multiprocessing.get_context("spawn")
    rows = []
    for table_rows in sizes:
        work = Workload("deepfm", table_rows=table_rows, dim=16, table_optimizer="adagrad_rows")
        with context.Pool(1) as pool:
            rows.append(pool.apply(cut_table, (work, table_rows <= _MOST_ROWS_RUN)))
    return rows


def cut_table(work: Workload, run: bool) -> Row:
    """Compiles the step of a table cut over eight host devices, and takes two where asked to."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_num_cpu_devices", 8)
    engine, logical, recipe = make_training(work, {"data": 1, "fsdp": 8, "tensor": 1})
    seeds = jnp.zeros(1, jnp.uint32)
    state = jax.eval_shape(recipe.create, jax.eval_shape(recipe.init_params, seeds), seeds)
    ids, labels = (array[None, : work.batch] for array in make_rows(work))
    row = np.arange(work.batch, dtype=np.int32)[None]
    batch = {"ids": ids, "label": labels, "weight": np.ones_like(labels), "row": row}
    placed = engine.put_member_batch(batch)
    lowered = engine.lower_step(recipe.step, logical, engine.abstract(state, logical), placed, {})
    memory = lowered.compile().memory_analysis()
    table_bytes = 4 * work.table_rows * work.dim
    found: Row = {
        "work": "memory",
        **_sizes(work),
        "devices": 8,
        "table_mib": table_bytes / 2**20,
        "state_mib_a_device": memory.argument_size_in_bytes / 2**20,
        "temporary_mib_a_device": memory.temp_size_in_bytes / 2**20,
        "took_steps": 2 if run else 0,
    }
    if run:
        found["loss"] = _take_two(engine, logical, recipe, seeds, placed)
    return found


def _take_two(engine: Any, logical: Any, recipe: Any, seeds: Any, batch: Any) -> float:
    """Creates the state, takes two steps on one batch, returns the second loss."""
    import jax

    def start(seeds: jax.Array) -> Any:
        return recipe.create(recipe.init_params(seeds), seeds)

    state = engine.compile_once(start, logical)(seeds)
    step = engine.compile_step(recipe.step, logical)
    for _ in range(2):
        state, metrics = step(state, batch, {})
    return float(metrics["train/loss"][0])


# Both --------------------------------------------------------------------------------------------


def load_side(side: str) -> None:
    """Loads the libraries of a side, so that they do not count as memory of the training."""
    if side.startswith("torch"):
        import torch_ctr  # noqa: F401
    elif side == "fuxictr":
        import fuxictr_ctr  # noqa: F401
    else:
        import configs  # noqa: F401
        import recjax.parallel
        import recjax.recipe  # noqa: F401


def make_stepper(side: str, work: Workload) -> Callable[[], None]:
    """The function that takes one step of a side."""
    if side == "recjax":
        return recjax_stepper(work)
    if side == "fuxictr":
        import fuxictr_ctr

        return fuxictr_ctr.make_stepper(work, *make_rows(work), learning_rate=LEARNING_RATE)
    import torch_ctr

    return torch_ctr.make_stepper(
        work,
        *make_rows(work),
        compiled=side == "torch_compiled",
        sparse=work.table_optimizer != "same",
        learning_rate=LEARNING_RATE,
    )


def measure(work: Workload, sides: tuple[str, ...], quick: bool) -> Row:
    """Returns the row of one workload; sides take turns."""
    turns = _FEW_TURNS if quick or work.table_rows >= _MOST_ROWS_RUN else _TURNS
    if work.table_optimizer != "same":  # torch.compile has no sparse gradients
        sides = tuple(side for side in sides if side != "torch_compiled")
    seconds, peaks = take_turns(sides, work, load=load_side, make=make_stepper, **turns)
    row: Row = {"work": "step", **_sizes(work)}
    for side in SIDES:
        known = side in seconds
        row[f"{side}_rows_per_second"] = work.batch / seconds[side] if known else None
        row[f"{side}_gib"] = peaks.get(side)
    bare = [seconds[side] for side in seconds if side.startswith("torch")]
    row["recjax_over_torch"] = min(bare) / seconds["recjax"] if bare else None
    full = seconds.get("fuxictr")
    row["recjax_over_fuxictr"] = full / seconds["recjax"] if full else None
    return row


def _sizes(work: Workload) -> Row:
    sizes = dataclasses.asdict(work)
    return sizes | {"hidden_dims": "x".join(map(str, work.hidden_dims))}


def main() -> None:
    """Measures all sizes and writes them."""
    arguments = make_parser(__doc__).parse_args()
    peers = [name for name in ("torch", "fuxictr") if importlib.util.find_spec(name)]
    sides = tuple(side for side in SIDES if side.split("_")[0] in ("recjax", *peers))
    print("no columns, not in this Python:", *sorted({*SIDES} - {*sides}))
    rows = []
    for work in make_workloads(arguments.quick):
        rows.append(measure(work, sides, arguments.quick))
        print(json.dumps(rows[-1]), flush=True)
    for row in measure_cut_tables(arguments.quick):
        rows.append(row)
        print(json.dumps(row), flush=True)
    versions = {name: importlib.metadata.version(name) for name in peers}
    write_record("ctr_speed", rows, arguments, versions, NOTE)


if __name__ == "__main__":
    main()
