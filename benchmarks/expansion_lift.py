"""Does expansion pay? Runs a round of `configs/expansion_lift.py` and makes the lift table.

    python benchmarks/expansion_lift.py --data FOLDER_OF_DATA_SETS
    python benchmarks/expansion_lift.py --data FOLDER --round refine --arms hmm_users hmm_continue
    python benchmarks/expansion_lift.py --data FOLDER --round confirm --arms hmm_users-x5-draws

Time is told first. Each cell is an ordinary run of `recjax.main` in a work directory of its own
below --runs; prepared data, generators and the real-only arm are made once and linked into the
others. The same command again goes on where it was. The table is written after every cell.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lift_table import Cell, correct, judge, rows_of, verdict
from ml_collections import ConfigDict
from program import run_program
from records import make_parser, write_record

from configs import expansion_lift as plan
from recjax.evaluation.results import StatisticsConfig
from recjax.workdir import Workdir, digest, read_json

TRAININGS = ("pretrain", "finetune.next_item")
CUT_STEPS = 40  # of each training of the run that tells the time
LOG_KEYS = ("seed", "data", "prepare", "features")  # what a prepared log is made from
GENERATOR_KEYS = (*LOG_KEYS, "num_seeds")
ARM_KEYS = ("expansion", "name", "recommend", "report")  # the real-only arm does not read them


def plan_cells(name: str, arms: Sequence[str]) -> list[Cell]:
    """Returns the cells of a round, the most wanted first; `arms` are those chosen before it."""
    chosen = plan.ROUNDS[name]
    names = list(chosen["arms"])
    if "ratios" in chosen:
        names += [
            "-".join(filter(None, (arm, f"x{ratio:g}", schedule)))
            for arm in arms for ratio in chosen["ratios"] for schedule in chosen["schedules"]
        ]  # fmt: skip
    else:
        names += arms
    return [
        Cell(name, data, share, arm)
        for data in chosen["data"]
        for share in chosen["shares"]
        for arm in names
    ]


class Runner:
    """Runs cells below a folder."""

    def __init__(self, runs: Path, data: Path) -> None:
        self.runs, self.data = runs, data

    def folder(self, cell: Cell) -> Path:
        """The work directory of a cell."""
        return self.runs / cell.name

    def is_done(self, cell: Cell) -> bool:
        """Whether a cell was evaluated."""
        return Workdir(self.folder(cell)).is_done("evaluate")

    def run(self, cell: Cell) -> None:
        """Runs a cell to its end, or on from where it stopped."""
        config, folder = plan.get_config(cell.name), self.folder(cell)
        prepared = self._prepare(cell, config)
        self._link(folder, prepared, config)
        self.call(cell, folder, "expand,pretrain,finetune,evaluate")

    def seconds_per_step(self, cell: Cell) -> float:
        """Returns the time of a step of the cell's trainings, from a run cut short."""
        cut = Cell(cell.round, cell.data, cell.share, "repeat")
        folder = self.runs / "time" / cell.round / cell.data / cell.share
        if not Workdir(folder).is_done("finetune"):
            prepared = self._prepare(cut, plan.get_config(cut.name))
            _link_prepared(folder, prepared)
            flags = [f"--config.{key}.num_steps={CUT_STEPS}" for key in TRAININGS]
            self.call(cut, folder, "expand,pretrain,finetune", flags)
        # the second arm's: compiled already
        summary = read_json(folder / "finetune" / "next_item" / "repeated" / "summary.json")
        return summary["wall_seconds"] / summary["steps"]

    def call(self, cell: Cell, folder: Path, stages: str, flags: Iterable[str] = ()) -> None:
        """Runs stages of the program."""
        command = [f"--config=configs/expansion_lift.py:{cell.name}"]
        if plan.FILES[cell.data]:
            command += [f"--config.data.path={self.data / plan.FILES[cell.data]}"]
        run_program(*command, f"--workdir={folder}", f"--stages={stages}", *flags)

    def _prepare(self, cell: Cell, config: ConfigDict) -> Path:
        """Returns the folder where the cell's log is prepared."""
        folder = self.runs / "prepared" / f"{cell.data}_{cell.share}_{_key(config, only=LOG_KEYS)}"
        if not Workdir(folder).is_done("features"):
            self.call(cell, folder, "prepare,features")
        return folder

    def _link(self, folder: Path, prepared: Path, config: ConfigDict) -> None:
        """Gives a cell what it shares with others, each kept by the settings it was made from."""
        _link_prepared(folder, prepared)
        shared = self.runs / "shared"
        generator = _key(config, only=GENERATOR_KEYS) + digest(config.expansion.hmm.to_dict())
        _link_folder(folder / "expansion" / "generators", shared / f"generators_{generator}")
        real = shared / f"real_{_key(config, without=ARM_KEYS)}"
        for name in ("pretrain/real", "finetune/next_item/real"):
            _link_folder(folder / name, real / name)


def _key(config: ConfigDict, only: Sequence[str] = (), without: Sequence[str] = ()) -> str:
    plain = config.to_dict()
    return digest({k: v for k, v in plain.items() if (k in only or not only) and k not in without})


def _link_prepared(folder: Path, prepared: Path) -> None:
    """The stages of preparation count as done in the cell, on the same artefacts."""
    (folder / ".stages").mkdir(parents=True, exist_ok=True)
    for marker in (prepared / ".stages").glob("*.json"):
        (folder / ".stages" / marker.name).write_text(marker.read_text())
    for name in ("prepared", "features"):
        if (prepared / name).exists():
            _link_folder(folder / name, prepared / name)


def _link_folder(link: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(target.resolve())


def tell_time(runner: Runner, cells: Sequence[Cell]) -> None:
    """Prints what is left to do: trainings x steps x seconds."""
    left = [cell for cell in cells if not runner.is_done(cell)]
    groups = dict.fromkeys((cell.data, cell.share) for cell in left)
    for data, share in groups:
        of_group = [cell for cell in left if (cell.data, cell.share) == (data, share)]
        config = plan.get_config(of_group[0].name)
        steps = config.pretrain.num_steps + config.finetune.next_item.num_steps
        seconds, trainings = runner.seconds_per_step(of_group[0]), len(of_group) + 1
        print(
            f"{data}, {share} % of the users: {trainings} arms x {steps} steps x {seconds:.2f} s = "
            f"at most {trainings * steps * seconds / 60:.0f} minutes of training",
            flush=True,
        )


def tabulate(runner: Runner, cells: Sequence[Cell]) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns the rows of the finished cells, and a sentence per data set and share."""
    rows, sentences = [], []
    for data, share in dict.fromkeys((cell.data, cell.share) for cell in cells):
        of_group = [cell for cell in cells if (cell.data, cell.share) == (data, share)]
        done = {cell: runner.folder(cell) for cell in of_group if runner.is_done(cell)}
        if done:
            judged = judge(done, StatisticsConfig(bootstrap_samples=5000))
            rows += rows_of(data, share, judged)
            sentences.append(f"{data}, {share} % of the users, {judged.part}: {verdict(judged)}")
    correct(rows)
    return rows, sentences


def main() -> None:
    """Runs what is missing of a round and writes the table after every cell."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of public data sets")
    parser.add_argument("--runs", type=Path, default=Path("runs/expansion_lift"))
    parser.add_argument("--round", choices=list(plan.ROUNDS), default="screen")
    parser.add_argument("--arms", nargs="*", default=[], help="those that the round before chose")
    arguments = parser.parse_args()
    runner = Runner(arguments.runs.resolve(), arguments.data.resolve())
    cells = plan_cells(arguments.round, arguments.arms)
    tell_time(runner, cells)
    for cell in cells:
        if not runner.is_done(cell):
            runner.run(cell)
        report(runner, cells, arguments)


def report(runner: Runner, cells: Sequence[Cell], arguments: argparse.Namespace) -> None:
    """Writes and prints what there is by now."""
    rows, sentences = tabulate(runner, cells)
    done = sum(runner.is_done(cell) for cell in cells)
    note = f"round {arguments.round}: {done} of {len(cells)} cells. " + " ".join(sentences)
    write_record("expansion_lift", rows, arguments, note=note)
    for row in rows:
        if row["slice"] == "all":
            lift = "" if row["lift"] is None else f"{row['lift']:+8.1%} vs {row['control']}"
            print(f"{row['data']:8} {row['arm']:28} {row['ndcg_at_10']:.4f} {lift}")
    print(note, flush=True)


if __name__ == "__main__":
    main()
