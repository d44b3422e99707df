"""A run that is killed or stopped at any moment ends, by the same command, with the same results.

The program runs in processes of its own, as a user starts it. What is read of it are its contracts:
progress.json, exit codes, results.json, recommendations.parquet; of a short pretraining that is
killed many times, every bit of the last checkpoint.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[1]
INTERRUPTED = 42
POLL_SECONDS = 0.01
PATIENCE_SECONDS = 400.0

SMOKE = ("--config", "configs/smoke.py")
QUICKSTART = ("--config", "configs/quickstart.py") + tuple(
    f"--config.{setting}"
    for setting in (
        "num_seeds=2",
        "data.simulated_shop.num_users=400",
        "data.simulated_shop.num_items=100",
        "expansion.hmm.num_iterations=4",
        "pretrain.num_steps=40",
        "pretrain.eval_interval_steps=15",
        "finetune.next_item.num_steps=40",
        "finetune.next_item.eval_interval_steps=15",
        "finetune.click.num_steps=40",
        "finetune.click.eval_interval_steps=15",
        "checkpoint.interval_steps=7",  # no divisor: saves and evaluations fall on different steps
        "evaluate.bootstrap_samples=200",
    )
)
TUNE = SMOKE + (
    "--stages=prepare,features,expand,tune",
    "--config.tune.num_trials=3",
    "--config.pretrain.num_steps=6",
    "--config.pretrain.eval_interval_steps=2",
    "--config.finetune.next_item.num_steps=6",
    "--config.finetune.next_item.eval_interval_steps=2",
    "--config.tune.space=(('finetune.next_item.learning_rate', 'log', 1e-4, 1e-1),)",
)
# (stage, share of its time): where the ten kills fall
MOMENTS = (
    ("prepare", 0.5),
    ("expand", 0.2),
    ("expand", 0.8),
    ("pretrain", 0.3),
    ("pretrain", 0.7),
    ("finetune", 0.3),
    ("finetune", 0.7),
    ("evaluate", 0.5),
    ("recommend", 0.3),
    ("report", 0.3),
)


class Run:
    """One work directory and the command that is given again and again."""

    def __init__(self, command: tuple[str, ...], workdir: Path) -> None:
        self.workdir = workdir
        self.command = [sys.executable, "-m", "recjax.main", *command, "--workdir", str(workdir)]
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        self.started = time.time()
        self.workdir.parent.mkdir(exist_ok=True)
        with open(f"{self.workdir}.log", "a") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env={**os.environ, "JAX_PLATFORMS": "cpu"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a kill takes its children along, and not us
            )

    def stage(self) -> str:
        """The stage that this attempt is in; "" before the first."""
        path = self.workdir / "progress.json"
        progress = json.loads(path.read_text()) if path.exists() else {}
        return progress.get("stage", "") if progress.get("time", 0) >= self.started else ""

    def wait_for(self, stage: str) -> None:
        while self.stage() != stage:
            assert self.process.poll() is None, f"ended before {stage!r}\n{self.log()}"
            assert time.time() - self.started < PATIENCE_SECONDS, f"{stage!r} does not come"
            time.sleep(POLL_SECONDS)

    def send(self, number: signal.Signals) -> int:
        """Sends a signal to the whole group, as a terminal does; returns the exit code."""
        assert self.process.poll() is None, f"over before the signal\n{self.log()}"
        os.killpg(self.process.pid, number)
        return self.process.wait(timeout=PATIENCE_SECONDS)  # a compile in progress ends first

    def finish(self) -> dict[str, float]:
        """Runs the command to its end; returns the seconds that each stage took."""
        self.start()
        seen: dict[str, float] = {}
        while self.process.poll() is None:
            seen.setdefault(self.stage(), time.time())
            assert time.time() - self.started < PATIENCE_SECONDS, self.log()
            time.sleep(POLL_SECONDS)
        assert self.process.returncode == 0, self.log()
        borders = sorted(seen.values()) + [time.time()]
        return {stage: borders[i + 1] - borders[i] for i, stage in enumerate(seen)}

    def log(self) -> str:
        return Path(f"{self.workdir}.log").read_text()[-4000:]

    def results(self) -> tuple[dict[str, Any], Any]:
        """What must not depend on interruptions: all of results.json but its times."""
        numbers = json.loads((self.workdir / "results.json").read_text())
        del numbers["cost"]
        return numbers, pq.read_table(self.workdir / "recommendations.parquet").to_pydict()

    def leftovers(self) -> list[str]:
        return [str(path) for path in self.workdir.rglob("*partial*")]


def assert_same(run: Run, undisturbed: Run) -> None:
    numbers, recommendations = run.results()
    expected, expected_recommendations = undisturbed.results()
    assert numbers == expected
    assert recommendations == expected_recommendations
    assert run.leftovers() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_run_that_is_killed_and_stopped_ends_as_if_it_had_not(tmp_path: Path) -> None:
    undisturbed, run = Run(SMOKE, tmp_path / "undisturbed"), Run(SMOKE, tmp_path / "run")
    seconds = undisturbed.finish()
    for stage, number, code in (
        ("expand", signal.SIGKILL, -signal.SIGKILL),
        ("pretrain", signal.SIGTERM, INTERRUPTED),
        ("finetune", signal.SIGINT, INTERRUPTED),
    ):
        run.start()
        run.wait_for(stage)
        time.sleep(0.5 * seconds[stage])
        assert run.send(number) == code, run.log()
        assert not (run.workdir / "results.json").exists()
    run.finish()
    assert_same(run, undisturbed)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory) -> tuple[Run, dict[str, float]]:
    """An uninterrupted quickstart, made smaller, and the seconds of its stages."""
    run = Run(QUICKSTART, tmp_path_factory.mktemp("kill") / "undisturbed")
    return run, run.finish()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("stage", "share"), MOMENTS)
def test_killed_quickstart_ends_with_the_same_results(
    tmp_path: Path, quickstart: tuple[Run, dict[str, float]], stage: str, share: float
) -> None:
    undisturbed, seconds = quickstart
    run = Run(QUICKSTART, tmp_path / "run")
    run.start()
    run.wait_for(stage)
    time.sleep(share * seconds[stage])
    assert run.send(signal.SIGKILL) == -signal.SIGKILL
    run.finish()
    assert_same(run, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_quickstart_stopped_in_every_stage_saves_and_resumes(
    tmp_path: Path, quickstart: tuple[Run, dict[str, float]]
) -> None:
    undisturbed, seconds = quickstart
    run = Run(QUICKSTART, tmp_path / "run")
    stages = [stage for stage in dict.fromkeys(stage for stage, _ in MOMENTS)]
    for index, stage in enumerate(stages):
        run.start()
        run.wait_for(stage)
        time.sleep(0.4 * seconds[stage])
        assert run.send((signal.SIGTERM, signal.SIGINT)[index % 2]) == INTERRUPTED, run.log()
        progress = json.loads((run.workdir / "progress.json").read_text())
        assert progress["state"] == "interrupted" and progress["attempt"] == index + 1
    run.finish()
    assert_same(run, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_search_that_is_killed_and_stopped_tries_the_same_settings(tmp_path: Path) -> None:
    undisturbed, run = Run(TUNE, tmp_path / "undisturbed"), Run(TUNE, tmp_path / "run")
    undisturbed.finish()
    for trial, number, code in (
        ("real/1", signal.SIGKILL, -signal.SIGKILL),
        ("expanded/1", signal.SIGTERM, INTERRUPTED),
    ):
        run.start()
        while not (run.workdir / "tuning/trials" / trial).exists():
            assert run.process.poll() is None, run.log()
            time.sleep(POLL_SECONDS)
        assert run.send(number) == code, run.log()
        assert not (run.workdir / "tuning/trials.json").exists()
    run.finish()
    assert trials_of(run) == trials_of(undisturbed)
    for arm in ("real", "expanded"):
        chosen = [r.workdir / f"tuning/chosen_{arm}.py" for r in (run, undisturbed)]
        assert chosen[0].read_text() == chosen[1].read_text()
    assert run.leftovers() == []


def trials_of(run: Run) -> list[dict[str, Any]]:
    trials = json.loads((run.workdir / "tuning/trials.json").read_text())["trials"]
    assert [trial.pop("seconds") > 0 for trial in trials] == [True] * 6
    return trials


PRETRAINING = SMOKE + (
    "--stages=prepare,features,expand,pretrain",
    "--config.expansion.use_in=finetune",  # so that one arm is pretrained
    "--config.pretrain.num_steps=300",
    "--config.pretrain.eval_interval_steps=50",
    "--config.checkpoint.interval_steps=7",
    "--config.checkpoint.keep_best=1",
)
KILLS = 50


def final_state(run: Run) -> list[np.ndarray]:
    """Every array of the last checkpoint: parameters, moments, counters, best parameters."""
    from orbax.checkpoint import v1 as ocp

    folder = run.workdir / "pretrain" / "real" / "checkpoints"
    newest = max(
        (path for path in folder.iterdir() if path.name.isdigit()), key=lambda p: int(p.name)
    )
    with warnings.catch_warnings(action="ignore"):  # laid out as saved: the machine is the same
        parts = ocp.load_checkpointables(newest)
    assert parts["loop"]["finished"]
    return [np.asarray(leaf) for leaf in jax.tree.leaves((parts["best"], parts["state"]))]


def before_pretraining(done: Run, target: Path) -> Run:
    """A copy of a finished run that has still to pretrain."""
    shutil.copytree(
        done.workdir, target, ignore=shutil.ignore_patterns("pretrain", "pretrain.json")
    )
    return Run(PRETRAINING, target)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_fifty_random_kills_leave_the_same_parameters_bit_for_bit(tmp_path: Path) -> None:
    undisturbed = Run(PRETRAINING, tmp_path / "undisturbed")
    undisturbed.finish()
    expected, curve = final_state(undisturbed), read_metrics(undisturbed)
    timed = before_pretraining(undisturbed, tmp_path / "timed")
    seconds = sum(timed.finish().values())  # imports and cached compiles included
    rng, kills, runs = random.Random(0), 0, 0
    while kills < KILLS:
        runs += 1
        run = before_pretraining(undisturbed, tmp_path / f"run_{runs}")
        while kills < KILLS:
            run.start()
            time.sleep(rng.uniform(0.0, seconds))
            if run.process.poll() is not None:
                break
            number = rng.choice((signal.SIGKILL, signal.SIGTERM))
            code = run.send(number)
            kills += 1
            if code == 0:  # SIGTERM came when all was done
                assert (run.workdir / ".stages" / "pretrain.json").exists(), run.log()
                break
            # SIGTERM ends Python itself before the program has installed its handler
            assert code in (-number, INTERRUPTED if number == signal.SIGTERM else -number), (
                run.log()
            )
        run.finish()
        for mine, other in zip(final_state(run), expected, strict=True):
            np.testing.assert_array_equal(mine, other)
        assert read_metrics(run) == curve and run.leftovers() == []
        shutil.rmtree(run.workdir)
    print(f"{kills} kills over {runs} runs of {seconds:.1f} s")


def read_metrics(run: Run) -> list[str]:
    return (run.workdir / "pretrain" / "real" / "metrics.jsonl").read_text().splitlines()
