"""Several outcomes of a row together and each alone: the census, and what came of views.

    python benchmarks/ctr_multitask.py --data FOLDER_OF_DATA_SETS --runs runs/ctr_multitask

Every set is one ordinary run of its config (`adult_multitask`, `view_outcomes`). Validation chose
the checkpoint of each seed: the mean AUC of the outcomes for heads that learn several, its own for
each outcome alone. A `lift` below 0 whose interval stays below 0 is negative transfer.
"""

import argparse
from pathlib import Path

from program import run_program
from records import Row, make_parser, write_record

from recjax.workdir import read_json

SETS = {  # config -> data under the folder
    "adult_multitask": "adult_multitask",
    "view_outcomes": "retailrocket_mb/events.parquet",
}
NOTE = (
    "All heads of a set share one untuned setting. `single` is a shared bottom that learns that "
    "outcome only: same widths, steps and batches. lift: AUC minus that of single, interval over "
    "users (rows where users are unknown) and seeds."
)


def main() -> None:
    """Runs what is missing and writes the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="work directories, one a set")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    for name in arguments.sets:
        run(name, arguments)
        found = [name for name in SETS if (arguments.runs / name / "results.json").exists()]
        rows = [row for name in found for row in read_rows(arguments.runs / name, name)]
        write_record("ctr_multitask", rows, arguments, note=NOTE)
        print(*rows, sep="\n", flush=True)


def run(name: str, arguments: argparse.Namespace) -> None:
    """Trains and judges the heads on a set; a finished run is skipped by the program itself."""
    steps = ["--config.finetune.row_outcomes.num_steps=20"] if arguments.quick else []
    run_program(
        f"--config=configs/{name}.py",
        f"--workdir={(arguments.runs / name).resolve()}",
        f"--config.data.path={(arguments.data / SETS[name]).resolve()}",
        f"--config.num_seeds={arguments.seeds}",
        *steps,
    )


def read_rows(folder: Path, name: str) -> list[Row]:
    """Returns a row for each outcome and arm of a finished run."""
    rows = []
    for task, found in read_json(folder / "results.json")["tasks"].items():
        for arm, facts in found["arms"].items():
            metrics = facts["metrics"]
            lift = found["lift"].get(f"{arm} vs single", {}).get("auc", {})
            low, high = lift.get("ci95", (None, None))
            rows.append(
                {
                    "data": name,
                    "outcome": task.removeprefix("row_click_"),
                    "head": arm,
                    "auc": metrics["auc"]["mean"],
                    "auc_sd": metrics["auc"]["sd"],
                    "pr_auc": metrics["pr_auc"]["mean"],
                    "logloss": metrics["log_loss"]["mean"],
                    "lift_top_tenth": metrics["lift_top_tenth"]["mean"],
                    "lift": lift.get("absolute"),
                    "lift_low": low,
                    "lift_high": high,
                    "p_holm": lift.get("p_holm"),
                    "seeds": len(metrics["auc"]["per_seed"]),
                }
            )
    return rows


if __name__ == "__main__":
    main()
