"""Who stays away and which carts are bought: heads on labelled tables, simple floors beside them.

    python benchmarks/churn_and_cart.py --data FOLDER_OF_DATA_SETS --runs runs/churn_and_cart

Every set is one ordinary run of its config. Validation chose the checkpoint of each seed. Floors:
a logistic regression of recency and frequency (customers), the linear head `lr` (contracts), and a
pair's or an item's share of purchases so far (carts).
"""

import argparse
from pathlib import Path

from program import run_program
from records import Row, make_parser, write_record

from recjax.workdir import read_json

SETS = {  # config -> data under the folder
    "churn_telco": "telco_churn/Telco-Customer-Churn.csv.gz",
    "invoice_churn:recency_frequency": "online_retail/invoices.parquet",
    "invoice_churn": "online_retail/invoices.parquet",
    "cart_outcomes": "retailrocket_mb/events.parquet",
}
METRICS = ("auc", "pr_auc", "log_loss", "lift_top_tenth", "ece")
NOTE = (
    "All heads share one untuned setting. invoice_churn: 30 days without a purchase after 30 days "
    "with one, the last cuts in time are test. cart_outcomes: bought within 7 days, of users who "
    "all bought something. lift_top_tenth: share of yes in the tenth scored highest over that of "
    "all."
)


def main() -> None:
    """Runs what is missing and writes the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="work directories, one a set")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    rows: list[Row] = []
    for name in SETS:
        folder = (arguments.runs / name.replace(":", "_")).resolve()
        run(name, folder, arguments)
        rows += read_rows(folder, name)
        write_record("churn_and_cart", rows, arguments, note=NOTE)
    print(*rows, sep="\n")


def run(name: str, folder: Path, arguments: argparse.Namespace) -> None:
    """Trains and judges the heads on a set; what is finished is skipped by the program itself."""
    config, _, argument = name.partition(":")
    steps = ["--config.finetune.row_click.num_steps=20"] if arguments.quick else []
    run_program(
        f"--config=configs/{config}.py" + (f":{argument}" if argument else ""),
        f"--workdir={folder}",
        f"--config.data.path={(arguments.data / SETS[name]).resolve()}",
        f"--config.num_seeds={arguments.seeds}",
        *steps,
    )


def read_rows(folder: Path, name: str) -> list[Row]:
    """Returns a row for each arm of a finished run."""
    arms = read_json(folder / "results.json")["tasks"]["row_click"]["arms"]
    rows = []
    for arm, found in arms.items():
        metrics = found["metrics"]
        row: Row = {"data": name, "head": arm, "seeds": len(metrics["auc"]["per_seed"])}
        for metric in METRICS:
            row |= {metric: metrics[metric]["mean"], f"{metric}_sd": metrics[metric]["sd"]}
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
