"""Click heads that read a history, on the Taobao log: AUC, AUC within users, the floor beside them.

Every head is one ordinary run of `configs/ctr_taobao.py` in a folder of its own; the table is
written after each, and a stopped program goes on where it was. Validation chose the checkpoint of
each seed; the test part is judged once.

    python benchmarks/ctr_sequences.py --data EVENTS_PARQUET --runs runs/ctr_sequences
"""

import argparse
from pathlib import Path
from typing import Any

from program import run_program
from records import Row, make_parser, write_record

from recjax.models import CLICK_HEADS
from recjax.workdir import read_json

NOTE = (
    "Clicks are events of the log beside four evenly drawn items, not impressions. All heads share "
    "one untuned setting (configs/ctr_taobao.py) and start from fresh weights; without categories "
    "in this log, sim looks at the last events."
)
METRICS = ("auc", "gauc", "log_loss", "pr_auc")


def main() -> None:
    """Runs the heads that are missing and writes the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="events.parquet of the log")
    parser.add_argument("--runs", type=Path, required=True, help="work directories, one a head")
    parser.add_argument("--heads", nargs="+", default=list(CLICK_HEADS), choices=list(CLICK_HEADS))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    for head in arguments.heads:
        run(head, arguments)
        collect(arguments)


def run(head: str, arguments: argparse.Namespace) -> None:
    """Trains and judges one head; a finished one is skipped by the program itself."""
    steps = ["--config.finetune.click.num_steps=20"] if arguments.quick else []
    run_program(
        "--config=configs/ctr_taobao.py",
        f"--workdir={(arguments.runs / head).resolve()}",
        f"--config.data.path={arguments.data.resolve()}",
        f"--config.num_seeds={arguments.seeds}",
        f"--config.finetune.click.head={head}",
        *steps,
    )


def collect(arguments: argparse.Namespace) -> None:
    """Writes the table of the heads that are finished."""
    heads = [head for head in CLICK_HEADS if (arguments.runs / head / "results.json").exists()]
    rows = [read_row(arguments.runs / heads[0], "floor", "floor")]
    rows += [read_row(arguments.runs / head, head, "real") for head in heads]
    write_record("ctr_sequences", rows, arguments, note=NOTE)
    print(*rows, sep="\n", flush=True)


def read_row(folder: Path, head: str, arm: str) -> Row:
    """Returns the row of an arm of a finished run."""
    found: dict[str, Any] = read_json(folder / "results.json")["tasks"]["click"]["arms"][arm]
    metrics, unseen = found["metrics"], found["slices"]["pair_unseen"]
    row: Row = {"data": "taobao_mb", "head": head, "seeds": len(metrics["auc"]["per_seed"])}
    for name in METRICS:
        known = metrics.get(name, {})
        row |= {name: known.get("mean"), f"{name}_sd": known.get("sd")}
    row["auc_unseen_pairs"] = unseen["metrics"]["auc"]["mean"] if "metrics" in unseen else None
    if arm != "floor":
        summary = read_json(folder / "finetune" / "click" / arm / "summary.json")
        row |= {"steps": summary["steps"], "train_seconds": summary["wall_seconds"]}
    return row


if __name__ == "__main__":
    main()
