"""recommend: the best items for every user, a user list, or the scores of a candidate file.

Uses the arm and the seed that won on validation, and everything known of a user, test part
included: this is what the shop would show next.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from recjax import distributed
from recjax.context import Context
from recjax.data.evaluation_batches import make_evaluation_batch
from recjax.data.examples import ExampleConfig
from recjax.data.histories import full_histories
from recjax.data.records import Record
from recjax.errors import UserError
from recjax.experiment import Experiment
from recjax.train import read_summary

_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("rank", pa.int32()),
        ("item_id", pa.string()),
        ("score", pa.float32()),
        ("arm", pa.string()),
    ]
)
_CANDIDATE_SCHEMA = pa.schema(
    [("user_id", pa.string()), ("item_id", pa.string()), ("score", pa.float32())]
)


def run(context: Context) -> dict[str, Any]:
    """Writes recommendations.parquet, or candidate_scores.parquet where candidates are given."""
    if "next_item" not in context.config.finetune.tasks:
        raise UserError("the recommend stage needs 'next_item' among config.finetune.tasks")
    experiment = Experiment(context)
    arm, seed = choose_arm(experiment)
    members = experiment.best_params("next_item", arm)
    params = jax.tree.map(lambda leaf: leaf[seed : seed + 1], members)
    users = _Users.read(context)
    if context.config.recommend.candidates_path:
        count = _score_candidates(experiment, params, users)
    else:
        count = _recommend(experiment, params, users, arm)
    context.progress.say(f"{count:,} rows, arm {arm!r}, seed {context.seeds[seed]}")
    return {"arm": arm, "seed": context.seeds[seed], "rows": count}


def choose_arm(experiment: Experiment) -> tuple[str, int]:
    """Returns (arm, member) with the best validation NDCG@10; ceiling arms cannot be shipped."""
    wanted = experiment.context.config.recommend.arm
    known = [arm for arm in experiment.arms if arm != "ceiling"]
    if wanted and wanted not in known:
        raise UserError(f"config.recommend.arm = {wanted!r}; known: {', '.join(known)}")
    folder = experiment.context.workdir / "finetune" / "next_item"
    scores = {arm: read_summary(folder / arm)["best_metric"] for arm in known}
    arm = wanted or max(known, key=lambda name: float(np.mean(scores[name])))
    return arm, int(np.argmax(scores[arm]))


class _Users:
    """Names of user numbers, and the ones asked for."""

    def __init__(self, names: list[str], wanted: set[int] | None, strangers: list[str]) -> None:
        self.names, self.wanted, self.strangers = names, wanted, strangers
        self.number = {name: number for number, name in enumerate(names)}

    @classmethod
    def read(cls, context: Context) -> "_Users":
        table = pq.read_table(context.workdir / "prepared" / "users.parquet", columns=["user_id"])
        names = table["user_id"].to_pylist()
        path = context.config.recommend.users_path
        if not path:
            return cls(names, None, [])
        asked = [line.strip() for line in _open(path, "users_path").read_text().splitlines()]
        number = {name: number for number, name in enumerate(names)}
        known = {number[name] for name in asked if name in number}
        return cls(names, known, [name for name in asked if name and name not in number])


def _open(path: str, key: str) -> Path:
    if not Path(path).is_file():
        raise UserError(f"config.recommend.{key} = {path!r}: no such file")
    return Path(path)


def _histories(experiment: Experiment, users: _Users) -> Iterator[Record]:
    """Yields the histories of the users asked for; strangers come last with none."""
    context = experiment.context
    config = ExampleConfig(actions=tuple(context.config.data.actions))
    everyone = full_histories(
        context.workdir / "prepared" / "events.parquet",
        len(users.names),
        carries_item=config.carries_item,
        max_history=context.config.model.max_len,
    )
    wanted = users.wanted
    yield from (record for record in everyone if wanted is None or record["user"] in wanted)
    blank = np.zeros(0, np.int64)
    for index in range(len(users.strangers)):
        yield {
            **dict.fromkeys(("items", "actions", "times", "sessions", "seen"), blank),
            "user": len(users.names) + index,
            "target_item": 1,
        }


def _batches(
    experiment: Experiment, histories: Iterator[Record]
) -> Iterator[tuple[list[Record], dict[str, np.ndarray]]]:
    config = experiment.context.config
    size = config.evaluate.batch_size
    rows = experiment.local_rows(size)
    while records := list(islice(histories, size)):
        longest = max(len(record["seen"]) for record in records)
        yield (
            records,
            make_evaluation_batch(
                [records[row] for row in rows if row < len(records)],
                num_rows=len(rows),
                max_len=config.model.max_len,
                num_gap_bins=config.prepare.num_gap_bins,
                history_len=max(64, 1 << max(0, longest - 1).bit_length()),
            ),
        )


def _recommend(experiment: Experiment, params: Any, users: _Users, arm: str) -> int:
    top_n = min(experiment.context.config.recommend.top_n, experiment.items.num_items)
    ranker = experiment.ranker(experiment.next_item_task(), top_n)
    names = [*users.names, *users.strangers]
    item_ids = np.asarray(experiment.items.item_ids, object)

    def tables() -> Iterator[pa.Table]:
        for records, batch in _batches(experiment, _histories(experiment, users)):
            (_, tops, scores), *_ = ranker.stream(params, [batch])
            kept = tops[0] > 0  # 0 stands where the history left fewer than n items
            rank = np.broadcast_to(np.arange(1, top_n + 1, dtype=np.int32), kept.shape)
            user = np.repeat([names[record["user"]] for record in records], kept.sum(axis=1))
            yield pa.table(
                [user, rank[kept], item_ids[tops[0][kept]], scores[0][kept], [arm] * len(user)],
                schema=_SCHEMA,
            )

    return _write(experiment.context.workdir / "recommendations.parquet", _SCHEMA, tables())


def _score_candidates(experiment: Experiment, params: Any, users: _Users) -> int:
    """Scores the rows of a candidate file; users and items that nobody knows are refused."""
    path = _open(experiment.context.config.recommend.candidates_path, "candidates_path")
    rows = csv.read_csv(path) if path.suffix != ".parquet" else pq.read_table(path)
    for name in ("user_id", "item_id"):
        if name not in rows.column_names:
            raise UserError(f"{path}: no column {name!r}; it has {', '.join(rows.column_names)}")
    asked_users = [str(value) for value in rows["user_id"].to_pylist()]
    asked_items = [str(value) for value in rows["item_id"].to_pylist()]
    item = {name: number for number, name in enumerate(experiment.items.item_ids)}
    _refuse_unknown(path, "user_id", asked_users, users.number)
    _refuse_unknown(path, "item_id", asked_items, item)
    wanted: dict[int, list[str]] = {}
    for user, name in zip(asked_users, asked_items, strict=True):
        wanted.setdefault(users.number[user], []).append(name)
    chosen = _Users(users.names, set(wanted), [])
    ranker = experiment.ranker(experiment.next_item_task(), 1)

    def tables() -> Iterator[pa.Table]:
        for records, batch in _batches(experiment, _histories(experiment, chosen)):
            scores = ranker.scores(params, batch)[0]
            for row, record in enumerate(records):
                names = wanted[record["user"]]
                numbers = [item[name] for name in names]
                user = [users.names[record["user"]]] * len(names)
                yield pa.table([user, names, scores[row, numbers]], schema=_CANDIDATE_SCHEMA)

    target = experiment.context.workdir / "candidate_scores.parquet"
    return _write(target, _CANDIDATE_SCHEMA, tables())


def _refuse_unknown(path: Path, column: str, asked: Sequence[str], known: dict[str, int]) -> None:
    for row, name in enumerate(asked, 2):  # line 1 is the header
        if name not in known:
            raise UserError(f"{path}, line {row}: {column} {name!r} is not in the prepared log")


def _write(path: Path, schema: pa.Schema, tables: Iterator[pa.Table]) -> int:
    """Streams tables into a Parquet file beside `path`, then renames it; process 0 alone writes."""
    if not distributed.is_main():
        return sum(table.num_rows for table in tables)
    beside, rows = path.with_suffix(".partial"), 0
    with pq.ParquetWriter(beside, schema) as writer:
        for table in tables:
            writer.write_table(table)
            rows += table.num_rows
    beside.replace(path)
    return rows
