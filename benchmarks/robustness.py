"""How models hold under noise, injected clicks and a popularity attack: the robustness curve.

    python benchmarks/robustness.py
    python benchmarks/robustness.py --quick --output curve.json

Every model is an ordinary run of `recjax.main` on the simulated shop (`configs/quickstart.py`) in a
folder below --runs, with its arms `real` and `expanded`; the adversarial ones fine-tune with
`finetune.next_item.in_step.adversarial` (FGM, PGD). The test users' histories are then spoiled as
`recjax.evaluation.robustness` says, the same for all; `kept` is NDCG@10 over that without an
attack. The counting floor stands beside them. Models are chosen on clean validation users.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from program import ROOT, run_program
from records import Row, make_parser, write_record
from rich.console import Console

from recjax.context import Context
from recjax.data.record_sources import Source
from recjax.evaluation.robustness import robustness_curve
from recjax.experiment import Experiment
from recjax.logs import Progress
from recjax.main import parse
from recjax.stages.evaluate_next_item import fit_counting_floor, rank_by_floor
from recjax.workdir import Workdir

ADVERSARIAL = "--config.finetune.next_item.in_step.adversarial.method="
MODELS = {"plain": (), "fgm": (f"{ADVERSARIAL}fgm",), "pgd": (f"{ADVERSARIAL}pgd",)}
SHARES = (0.1, 0.2, 0.5, 1.0)
STAGES = ("prepare", "features", "expand", "pretrain", "finetune")


def flags_of(model: str, arguments: argparse.Namespace) -> list[str]:
    """Returns the flags of a model's run, the work directory among them."""
    config = "smoke" if arguments.quick else "quickstart"
    seeds = 1 if arguments.quick else arguments.seeds
    return [
        f"--config={ROOT / 'configs' / config}.py",
        f"--workdir={(arguments.runs / model).resolve()}",
        f"--config.num_seeds={seeds}",
        "--config.finetune.tasks=('next_item',)",
        *(["--config.pretrain.num_steps=0"] if arguments.quick else []),
        *MODELS[model],
    ]


def train(model: str, arguments: argparse.Namespace) -> Experiment:
    """Trains a model's arms, or goes on where that stopped, and opens the run."""
    flags = flags_of(model, arguments)
    run_program(*flags, f"--stages={','.join(STAGES)}")
    request = parse(flags)
    workdir = Workdir.open(request.workdir)
    return Experiment(Context(request.config, workdir, Progress(workdir, Console(quiet=True))))


def curves_of(experiment: Experiment, shares: tuple[float, ...]) -> list[Row]:
    """Returns the rows of a run's arms."""
    ranker = experiment.ranker(experiment.next_item_task(), top_n=0)
    rows: list[Row] = []
    for arm in experiment.arms:
        params = experiment.best_params("next_item", arm)

        def rank(source: Source, params: Any = params) -> np.ndarray:
            return ranker(params, experiment.rank_batches(source)).ranks

        rows += _curve(experiment, arm, rank, shares)
    return rows


def floor_of(experiment: Experiment, shares: tuple[float, ...]) -> list[Row]:
    """Returns the rows of the counting floor."""
    floor = fit_counting_floor(experiment)
    masks = experiment.context.config.evaluate.mask_history
    return _curve(experiment, "floor", lambda s: rank_by_floor(floor, s, masks)[None], shares)


def _curve(
    experiment: Experiment,
    arm: str,
    rank: Callable[[Source], np.ndarray],
    shares: tuple[float, ...],
) -> list[Row]:
    test, counts = experiment.judged("next_item"), experiment.items.train_count
    rows = robustness_curve(rank, test, np.asarray(counts), shares=shares)
    facts = {"data": "simulated_shop", "arm": arm, "users": len(test)}
    return [{**facts, **row} for row in rows]


def main() -> None:
    """Trains what is missing and writes the curves after every model."""
    parser = make_parser(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    models = ("plain",) if arguments.quick else tuple(MODELS)
    shares = SHARES[-1:] if arguments.quick else SHARES
    rows: list[Row] = []
    for model in models:
        experiment = train(model, arguments)
        seeds = len(experiment.context.seeds)
        if not rows:
            rows = [
                {"model": "counting", "seeds": 1, **row} for row in floor_of(experiment, shares)
            ]
        rows += [{"model": model, "seeds": seeds, **row} for row in curves_of(experiment, shares)]
        write_record("robustness", rows, arguments)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
