"""The one train loop, read top to bottom.

It owns time: steps, evaluations, saves, stops. The task owns the loss, the engine the devices, the
iterator its pointers. An interrupted run continues from its last checkpoint and ends with the same
bits as an uninterrupted one, because state, iterator and clock are saved together.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from recjax import distributed, interrupts
from recjax.checkpoints import Checkpoints, abstract
from recjax.logs import MetricWriter, Progress, read_metrics
from recjax.parallel import Engine
from recjax.parameter_table import list_parameters, summary_line, write_parameters
from recjax.profiling import ProfileWindow
from recjax.step import CompiledStep, TrainState, record_evaluation
from recjax.step_guard import StepGuard
from recjax.stopwatch import Stopwatch, summarise
from recjax.workdir import write_json

Tree = Any


class BatchIterator(Protocol):
    """Endless batches [M, B, ...] whose position is a small JSON-like state."""

    def __next__(self) -> dict[str, np.ndarray]:
        """Returns the next batch."""

    def get_state(self) -> Any:
        """Returns the position after the last batch handed out."""

    def set_state(self, state: Any) -> None:
        """Moves to a position."""


@dataclass(frozen=True)
class LoopConfig:
    """When the loop does what; all in optimizer steps."""

    num_steps: int
    eval_interval_steps: int
    early_stop_evals: int
    checkpoint_interval_steps: int
    log_interval_steps: int
    keep_last: int
    keep_best: int
    tensorboard: bool
    wandb_project: str
    profile_start_step: int
    profile_num_steps: int


@dataclass(frozen=True)
class Training:
    """One arm's training: what is trained, on what, judged by what, kept where."""

    label: str
    folder: Path
    step: CompiledStep  # compiled by the engine; arms share one
    create: Callable[[Tree, jax.Array], TrainState]  # compiled `create_state`
    init_params: Callable[[jax.Array], Tree]  # uint32 [M] seeds -> tree of [M, ...], compiled
    start: Callable[[Tree], Tree]  # fresh parameters -> those to start from
    batches: BatchIterator
    constants: Mapping[str, np.ndarray]
    evaluate: Callable[[Tree], np.ndarray]  # tree of [M, ...] -> float32 [M], higher is better
    flops: Callable[[Mapping[str, np.ndarray]], float]  # host batch -> operations of a step on it
    metric_name: str
    seeds: tuple[int, ...]
    loop: LoopConfig
    pruned: Callable[[], bool] = lambda: False  # asked after each evaluation; True: it ends there


class NonFiniteError(RuntimeError):
    """A loss or gradient became NaN or infinite; the last saved state is good."""


def train(training: Training, engine: Engine, progress: Progress) -> None:
    """Trains all members of one arm to the end, or to the last saved step when stopped.

    Raises:
        Interrupted: after a save, when a stop signal came.
        NonFiniteError: naming the quantity, the seed and the steps.
    """
    with ExitStack() as closing, interrupts.deferred():
        _train(training, engine, progress, closing)


def _train(training: Training, engine: Engine, progress: Progress, closing: ExitStack) -> None:
    # ---- build the state, or take up the newest checkpoint ----
    loop = training.loop
    checkpoints = Checkpoints(
        training.folder / "checkpoints", keep_last=loop.keep_last, keep_best=loop.keep_best
    )
    closing.callback(checkpoints.close)
    seeds = jnp.asarray(training.seeds, jnp.uint32)
    state = training.create(training.start(training.init_params(seeds)), seeds)
    clock: dict[str, Any] = {"elapsed_seconds": 0.0, "finished": False, "metric": None}
    restored = checkpoints.restore(best=abstract(state.best_params), state=abstract(_rest(state)))
    if restored is not None:
        _, best, rest, saved_clock = restored
        clock |= saved_clock
        state = TrainState(**rest, best_params=best)
        training.batches.set_state(clock["iterator"])
    if clock["finished"]:
        return
    step, reached = int(state.step), clock["metric"]
    before, started = clock["elapsed_seconds"], time.monotonic()

    def elapsed() -> float:
        return before + time.monotonic() - started

    def save(finished: bool) -> None:
        clock = {
            "iterator": training.batches.get_state(),
            "elapsed_seconds": elapsed(),
            "finished": finished,
            "metric": reached,
        }
        checkpoints.save(
            step, best=state.best_params, state=_rest(state), loop=clock, metric=reached
        )

    constants = engine.put_constants(dict(training.constants))
    writer = MetricWriter(
        training.folder, step, training.label, loop.tensorboard, loop.wandb_project
    )
    closing.callback(writer.close)
    _tell_parameters(training, state.params, progress, fresh=restored is None)
    watch, guard = Stopwatch(training.flops, list(engine.mesh.devices.flat)), StepGuard()
    profile = ProfileWindow(
        training.folder / "profile", loop.profile_start_step, loop.profile_num_steps, watch
    )
    closing.callback(profile.close)

    # ---- the loop: batch, step, log, evaluate, save, stop ----
    while step < loop.num_steps:
        with watch.data():
            batch = with_rows(next(training.batches))
        with profile.step(step + 1), watch.host(), guard(batch):
            state, metrics = training.step(state, engine.put_member_batch(batch), constants)
        watch.count(batch, metrics)
        step += 1

        if step % loop.log_interval_steps == 0 or step == loop.num_steps:
            values = _fetch(metrics, training, step)
            _write(writer, step, training.seeds, values)
            writer.write_timings(step, watch.read())
            progress.update(
                training.label, step, loop.num_steps, loss=float(values["train/loss"].mean())
            )

        reached = None  # the mean metric of an evaluation at this step
        if step % loop.eval_interval_steps == 0 or step == loop.num_steps:
            with watch.paused():
                metric = np.asarray(training.evaluate(state.judged_params), np.float32)
                state = _record(state, metric, loop.early_stop_evals)
            _write(writer, step, training.seeds, {f"eval/{training.metric_name}": metric})
            reached = float(metric.mean())
            if training.pruned() or not np.any(np.asarray(state.active)):
                break

        due = step % loop.log_interval_steps == 0  # of several processes, the time to agree
        stop = distributed.agree(interrupts.stop_requested(), due=due)
        worth_keeping = loop.keep_best > 0 and reached is not None
        if stop or worth_keeping or step % loop.checkpoint_interval_steps == 0:
            with watch.paused():
                _fetch(metrics, training, step)  # never save a state that is not finite
                save(finished=False)
        if stop:
            checkpoints.wait()
            interrupts.stop()

    # ---- the end: the summary first, so that a finished checkpoint always has one ----
    _write_summary(training, state, step, elapsed())
    save(finished=True)
    checkpoints.wait()


def with_rows(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Adds `row` int32 [M, B], the global row that every random draw is keyed by.

    Loaders bring their own `row`, since a process may feed some rows only.
    """
    if "row" in batch:
        return batch
    members, size = next(iter(batch.values())).shape[:2]
    row = np.broadcast_to(np.arange(size, dtype=np.int32), (members, size))
    return {**batch, "row": np.ascontiguousarray(row)}


def load_best(folder: Path, like: Tree) -> Tree:
    """Loads the best parameters of a finished training.

    Args:
        folder: what `Training.folder` was.
        like: tree of `jax.ShapeDtypeStruct` with shardings, leaves [M, ...].
    """
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        return checkpoints.restore_best(like)
    finally:
        checkpoints.close()


def read_summary(folder: Path) -> dict[str, Any]:
    """Reads what `train` wrote at its end."""
    return json.loads((folder / "summary.json").read_text())


def read_costs(folders: Mapping[str, Path]) -> dict[str, Any]:
    """Reads what a stage's finished trainings cost: one by one, and their time figures together."""
    rows = [row for folder in folders.values() for row in read_metrics(folder / "timings.jsonl")]
    summaries = {label: read_summary(folder) for label, folder in folders.items()}
    return {"trainings": summaries, **summarise(rows)}


def _rest(state: TrainState) -> dict[str, Tree]:
    """The state without its best parameters, as a plain dict for the checkpoint."""
    return {name: value for name, value in vars(state).items() if name != "best_params"}


def _tell_parameters(training: Training, params: Tree, progress: Progress, fresh: bool) -> None:
    """Writes parameters.txt, as the state lies now; a resumed training does not say it again."""
    parameters = list_parameters(params)
    if distributed.is_main():
        write_parameters(parameters, training.folder / "parameters.txt")
    if fresh:
        progress.say(f"{training.label}: {summary_line(parameters)}")


def _record(state: TrainState, metric: np.ndarray, patience: int) -> TrainState:
    """Records an evaluation; the new state lies where the old one did, as the step expects it."""
    leaves, structure = jax.tree.flatten(state)
    compiled = _compile_record(structure, tuple(leaf.sharding for leaf in leaves), patience)
    return compiled(state, jnp.asarray(metric))


@lru_cache
def _compile_record(structure: Any, placed: tuple[Any, ...], patience: int) -> Any:
    record = partial(record_evaluation, patience=patience)
    return jax.jit(record, out_shardings=jax.tree.unflatten(structure, placed))


def _fetch(metrics: Mapping[str, jax.Array], training: Training, step: int) -> dict[str, Any]:
    """Brings metrics to the host and stops on the first that is not finite."""
    values = {name: np.asarray(value) for name, value in metrics.items()}
    for name, members in sorted(values.items(), key=lambda item: item[0] == "train/grad_norm"):
        for seed, value in zip(training.seeds, members, strict=True):
            if not np.isfinite(value):
                first = max(0, step - training.loop.log_interval_steps) + 1
                raise NonFiniteError(
                    f"{training.label}: {name} is {value} for seed {seed} in steps {first}-{step}; "
                    f"the last good state is in {training.folder}; try a lower learning_rate"
                )
    return values


def _write(
    writer: MetricWriter, step: int, seeds: tuple[int, ...], values: Mapping[str, np.ndarray]
) -> None:
    for member, seed in enumerate(seeds):
        writer.write(step, seed, {name: value[member] for name, value in values.items()})


def _write_summary(training: Training, state: TrainState, step: int, seconds: float) -> None:
    if not distributed.is_main():
        return
    write_json(
        training.folder / "summary.json",
        {
            "label": training.label,
            "steps": step,
            "wall_seconds": seconds,
            "metric": training.metric_name,
            "best_metric": np.asarray(state.best_metric).tolist(),
            "seeds": list(training.seeds),
            "timings": summarise(read_metrics(training.folder / "timings.jsonl")),
        },
    )
