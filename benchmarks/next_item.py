"""The real-only models on published sequences: SASRec-kind, HSTU and BERT4Rec by their configs.

    python benchmarks/next_item.py --data FOLDER_OF_DATA_SETS
    python benchmarks/next_item.py --data FOLDER --sets beauty --models sasrec hstu --seeds 1

Every cell is an ordinary run of `recjax.main` (`configs/MODEL.py:SET`) in a folder below --runs;
the same command again goes on where it was. A row per model, with its floor, after every cell.
Leave-one-out, all items ranked, own history masked, half ranks on ties; the settings are those of
the configs, the evaluation that is kept is validation's best. `steps` are all that were trained.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from program import run_program
from records import Row, make_parser, write_record

from recjax.workdir import Workdir, read_json

FILES = {"beauty": "amazon_beauty/Beauty.txt.gz", "ml1m": "ml1m/ml-1m.txt.gz"}
MODELS = ("sasrec", "hstu", "bert4rec")
STAGES = "prepare,features,expand,pretrain,finetune,evaluate"
METRICS = ("ndcg_at_10", "hr_at_10")


def run(folder: Path, model: str, log: str, arguments: argparse.Namespace) -> None:
    """Runs a cell to its end, or on from where it stopped."""
    run_program(
        f"--config=configs/{model}.py:{log}",
        f"--config.data.path={arguments.data.resolve() / FILES[log]}",
        f"--config.num_seeds={arguments.seeds}",
        f"--workdir={folder}",
        f"--stages={STAGES}",
    )


def row_of(folder: Path, model: str, log: str) -> Row:
    """Returns the figures of a finished cell."""
    results = read_json(folder / "results.json")
    arms = results["tasks"]["next_item"]["arms"]
    real, floor = arms["real"]["metrics"], arms["floor"]["metrics"]
    row: Row = {"data": log, "model": model, "seeds": len(real["ndcg_at_10"]["per_seed"])}
    for name in METRICS:
        row |= {name: real[name]["mean"], f"{name}_sd": real[name]["sd"]}
        row[f"floor_{name}"] = floor[name]["mean"]
    summaries = [read_json(path) for path in _summaries(folder)]
    row["steps"] = sum(summary["steps"] for summary in summaries)
    row["train_seconds"] = sum(summary["wall_seconds"] for summary in summaries)
    row["git"] = read_json(folder / "config.json")["git"]
    return row


def _summaries(folder: Path) -> Iterable[Path]:
    return sorted(folder.glob("**/real/summary.json"))


def main() -> None:
    """Runs what is missing and writes the table after every cell."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of public data sets")
    parser.add_argument("--runs", type=Path, default=Path("runs/next_item"))
    parser.add_argument("--sets", nargs="+", choices=list(FILES), default=list(FILES))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    rows: list[Row] = []
    for log in arguments.sets:
        for model in arguments.models:
            folder = arguments.runs.resolve() / f"{model}_{log}_{arguments.seeds}"
            if not Workdir(folder).is_done("evaluate"):
                run(folder, model, log, arguments)
            rows.append(row_of(folder, model, log))
            print(rows[-1], flush=True)
            write_record("next_item", rows, arguments)


if __name__ == "__main__":
    main()
