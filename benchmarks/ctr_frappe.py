"""Click-through heads on Frappe: AUC and log loss of every head, the pair floor beside them.

Every head is one ordinary run of `configs/ctr_frappe.py` in a folder of its own; the table is
written after each, and a stopped program goes on where it was. Validation chose all settings and
the checkpoint of each seed; the test part is judged once.

    python benchmarks/ctr_frappe.py --data FOLDER_OF_FRAPPE --runs runs/ctr_frappe
"""

import argparse
from pathlib import Path
from typing import Any

from program import run_program
from records import Row, make_parser, write_record

from recjax.models.ctr import HEADS
from recjax.workdir import read_json

DATA = "Frappe_x1, training part rebuilt"
PUBLISHED = {  # AUC of BARS: means of 5 seeds; the others are one seed chosen among several
    "dnn": 0.98405, "deepfm": 0.98395, "dcnv2": 0.98382, "xdeepfm": 0.98414,
    "lr": 0.9356, "fm": 0.9671, "autoint": 0.9831, "finalmlp": 0.98607, "finalnet": 0.98574,
}  # fmt: skip
NOTE = (
    "Valid and test are the published files. The training part is rebuilt (log minus their "
    "positives, two drawn negatives each), so figures are not those of the published one. "
    "auc_published: 5-seed means for dnn, deepfm, dcnv2, xdeepfm; single chosen seeds for the "
    "others. All heads share the settings of configs/ctr_frappe.py, which validation chose in 12 "
    "trials of dnn, one seed each; no head was tuned by itself. Log loss and calibration error are "
    "those after a temperature fitted on validation; published log losses are as trained."
)


def main() -> None:
    """Runs the heads that are missing and writes the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of Frappe's files")
    parser.add_argument("--runs", type=Path, required=True, help="work directories, one a head")
    parser.add_argument("--heads", nargs="+", default=list(HEADS), choices=list(HEADS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--collect", action="store_true", help="train nothing, read finished runs")
    arguments = parser.parse_args()
    if arguments.collect:
        collect(arguments)
        return
    for head in arguments.heads:
        run(head, arguments)
        collect(arguments)


def collect(arguments: argparse.Namespace) -> None:
    """Writes the table of the heads that are finished."""
    finished = [head for head in HEADS if (arguments.runs / head / "results.json").exists()]
    rows = [row for head in finished for row in read_rows(arguments.runs / head, head)]
    floor = read_floor(arguments.runs / finished[0])
    write_record("ctr_frappe", [*floor, *rows], arguments, note=NOTE)
    print(*map(describe, rows), sep="\n", flush=True)


def run(head: str, arguments: argparse.Namespace) -> None:
    """Trains and judges one head; a finished one is skipped by the program itself."""
    steps = ["--config.finetune.row_click.num_steps=50"] if arguments.quick else []
    run_program(
        "--config=configs/ctr_frappe.py",
        f"--workdir={(arguments.runs / head).resolve()}",
        f"--config.data.path={arguments.data.resolve()}",
        f"--config.num_seeds={arguments.seeds}",
        f"--config.finetune.row_click.heads=('{head}',)",
        *steps,
    )


def read_rows(folder: Path, head: str) -> list[Row]:
    """Returns the rows of a finished head, its seeds alone and together."""
    arms = _arms(folder)
    arm, together = arms[head], arms[f"{head}_ensemble"]
    summary = read_json(folder / "finetune" / "row_click" / head / "summary.json")
    best = summary["best_metric"]
    return [
        {
            **_figures(head, arm),
            "auc_published": PUBLISHED.get(head),
            "auc_valid": sum(best) / len(best),
            "steps": summary["steps"],
            "train_seconds": summary["wall_seconds"],
            "rows_per_second": summary["timings"].get("examples_per_second"),
        },
        _figures(f"{head}, mean of its seeds' probabilities", together),
    ]


def read_floor(folder: Path) -> list[Row]:
    """Returns the row of the pair floor: the same in every folder."""
    return [_figures("floor: pair seen in training, else popularity", _arms(folder)["floor"])]


def describe(row: Row) -> str:
    """Says a row in a line."""
    return ", ".join(f"{key} {value}" for key, value in row.items())


def _figures(head: str, arm: dict[str, Any]) -> Row:
    metrics = arm["metrics"]
    return {
        "data": DATA,
        "head": head,
        "auc": metrics["auc"]["mean"],
        "auc_sd": metrics["auc"]["sd"],
        "logloss": metrics["log_loss"]["mean"],
        "logloss_sd": metrics["log_loss"]["sd"],
        "ece": metrics["ece"]["mean"],
        "auc_unseen_pairs": arm["slices"]["pair_unseen"]["metrics"]["auc"]["mean"],
        "seeds": len(metrics["auc"]["per_seed"]),
    }


def _arms(folder: Path) -> dict[str, Any]:
    return read_json(folder / "results.json")["tasks"]["row_click"]["arms"]


if __name__ == "__main__":
    main()
