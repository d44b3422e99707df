"""The story of the log in prepare: read, clean, split, number, profile; then encode it.

Two steps, because the vocabulary between them counts the training part: `clean_log` ends with
prepared/cleaned_log.parquet (items by internal code), `encode_log` writes prepared/events.parquet
and impressions.parquet. The stage calls both; vocabulary, item table and examples come from others.
"""

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import pyarrow as pa

from recjax.data import events, impressions, splits, users
from recjax.data.catalogue import read_catalogue
from recjax.data.cleaning import Cleaned, clean_events
from recjax.data.codes import NO_ITEM, CodedLog, code_events
from recjax.data.engine import Engine, clear_errors
from recjax.data.graph import read_graph
from recjax.data.ibis_source import fetch_ibis_table
from recjax.data.leakage import check_leakage
from recjax.data.profile import make_profile
from recjax.data.quarantine import Quarantine
from recjax.data.sessions import number_sessions
from recjax.data.settings import LogSettings
from recjax.data.vocabulary import UNK

SORTED_BY = ("user", "timestamp", "row")
TYPES = {  # of both final files; backends differ in what they widen
    "user": "int32", "item": "int32", "timestamp": "int64", "part": "int8", "action": "int8",
    "session": "int32", "position": "int32", "label": "int8", "propensity": "float32",
}  # fmt: skip
# Intermediate files; Spark does not see names that begin with an underscore.
_EVENTS, _ITEMS = "cleaned_log.parquet", "cleaned_items.parquet"
_IMPRESSIONS = "cleaned_impressions.parquet"


@dataclasses.dataclass(frozen=True)
class CleanLog:
    """A cleaned, split log that waits for its vocabulary.

    Attributes:
        folder: prepared/; holds the final users.parquet, profile.json and quarantine.parquet, and
            intermediate files that encode_log removes.
        settings: what it was made with.
        profile: content of profile.json.
        catalogue: item_id, title, ... by row, or None.
        graph: head, relation, tail, or None.
        seconds: wall time so far.
    """

    folder: Path
    settings: LogSettings
    profile: dict[str, Any]
    catalogue: pa.Table | None
    graph: pa.Table | None
    seconds: float


@dataclasses.dataclass(frozen=True)
class LogFacts:
    """What became of a log.

    Attributes:
        num_events: rows of events.parquet.
        num_users: rows of users.parquet.
        num_impressions: rows of impressions.parquet, 0 without.
        source_events: readable events of the source.
        seconds: wall time of clean_log and encode_log.
        profile: content of profile.json.
    """

    num_events: int
    num_users: int
    num_impressions: int
    source_events: int
    seconds: float
    profile: dict[str, Any]

    @property
    def events_per_second(self) -> float:
        """Source events per second of wall time."""
        return self.source_events / max(self.seconds, 1e-9)


def clean_log(settings: LogSettings, folder: Path) -> CleanLog:
    """Reads, cleans and splits a log; writes users, profile and quarantine.

    Nothing is held in memory but the catalogue and the graph; the engine spills beyond
    config.prepare.memory_gib.

    Args:
        settings: of `settings.log_settings(config.data, config.prepare)`.
        folder: prepared/; made if it is not there.

    Raises:
        UserError: for every kind of bad input, a full disk, or a leak.
    """
    start = time.monotonic()
    with Engine(settings.engine, folder / "_scratch") as engine:
        quarantine = Quarantine(engine, settings.engine.max_quarantine_share)
        catalogue = read_catalogue(engine, settings.catalogue, quarantine)
        graph = read_graph(engine, settings.graph, quarantine)
        settings = dataclasses.replace(settings, events=fetch_ibis_table(engine, settings.events))
        typed = events.read_events(engine, settings.events, quarantine)
        log = code_events(engine, typed, settings.events.path)
        attributes = users.read_users(engine, settings.users, quarantine, log.has_clock)
        shown = impressions.read_impressions(engine, settings.events, quarantine)
        before = _profile(engine, log.events, settings)
        cleaned = clean_events(engine, log, settings.cleaning)
        log, removed = _keep_share(engine, log, cleaned, settings)
        split = splits.split_events(engine, log, settings.split, _target_ids(settings))
        adds_cold = settings.split.user_share == 1
        numbers = users.number_users(engine, log, attributes, cleaned.bots, adds_cold)
        final = _write_cleaned(engine, log, split, numbers, settings, folder)
        check_leakage(engine, final, split.facts)
        train_end = split.facts.get("valid_time")
        users.write_users(engine, folder / "users.parquet", numbers, final, attributes, train_end)
        counts = _count_parts(engine, final, settings)
        splits.check_parts(counts, settings.split)
        facts: dict[str, Any] = {
            "before": before,
            "after": _profile(engine, final, settings),
            "cleaning": removed,
            "cleaning_facts": cleaned.facts,
            "split": split.facts | counts,
            "has_clock": log.has_clock,
        }
        if shown is not None:
            facts["impressions"] = _write_shown(engine, shown, log, numbers, final, split, folder)
        facts["quarantine"] = quarantine.write(folder / "quarantine.parquet")
    write_json(folder / "profile.json", facts)
    return CleanLog(folder, settings, facts, catalogue, graph, time.monotonic() - start)


def item_counts(clean: CleanLog) -> pa.Table:
    """Returns item_id string and count int64 of the items of the training part, by item_id."""
    with Engine(clean.settings.engine, clean.folder / "_scratch") as engine:
        rows = engine.read_embedded(clean.folder / _EVENTS)
        train = rows.filter((rows.part == splits.TRAIN) & (rows.item != NO_ITEM))
        counts = train.group_by("item").agg(count=train.count())
        named = counts.inner_join(engine.read_embedded(clean.folder / _ITEMS), "item")
        return named.select("item_id", "count").order_by("item_id").to_pyarrow()


def encode_log(clean: CleanLog, items: pa.Table) -> LogFacts:
    """Writes events.parquet (and impressions.parquet) with vocabulary ids, and tidies up.

    Args:
        clean: of clean_log.
        items: item_id string, item int32: the vocabulary. Items it lacks become UNK.
    """
    start, folder = time.monotonic(), clean.folder
    with Engine(clean.settings.engine, folder / "_scratch") as engine:
        names = engine.read_embedded(folder / _ITEMS)
        known = engine.store(items.select(["item_id", "item"]), "vocabulary")
        joined = names.left_join(known.rename(id="item"), "item_id")
        ids = joined.select("item", id=joined.id.fill_null(UNK).cast("int32"))
        ids = engine.keep(ids, "item_ids")
        num_events = _encode(engine, folder / _EVENTS, ids, folder / "events.parquet")
        num_impressions = 0
        if (folder / _IMPRESSIONS).exists():
            num_impressions = _encode(
                engine, folder / _IMPRESSIONS, ids, folder / "impressions.parquet"
            )
        num_users = engine.count(engine.read_embedded(folder / "users.parquet"))
    for name in (_EVENTS, _ITEMS, _IMPRESSIONS):
        (folder / name).unlink(missing_ok=True)
    return LogFacts(
        num_events,
        num_users,
        num_impressions,
        clean.profile["before"]["events"],
        clean.seconds + time.monotonic() - start,
        clean.profile,
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes `content` as JSON, whole or not at all."""
    unfinished = path.with_name(path.name + ".unfinished")
    with clear_errors(str(path)):
        unfinished.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(unfinished, path)


def _target_ids(settings: LogSettings) -> list[int]:
    return [settings.events.actions.index(name) for name in settings.engine.target_actions]


def _profile(engine: Engine, rows: ir.Table, settings: LogSettings) -> dict[str, Any]:
    gap = settings.cleaning.session_gap_seconds
    return make_profile(engine, rows, settings.events.actions, gap)


def _keep_share(
    engine: Engine, log: CodedLog, cleaned: Cleaned, settings: LogSettings
) -> tuple[CodedLog, dict[str, int]]:
    """Keeps the events that are left in scratch; returns the log and the rows removed so far."""
    log = dataclasses.replace(log, events=engine.keep(cleaned.events, "clean"))
    share = splits.keep_share(engine, log, settings.split)
    if share is log.events:
        return log, cleaned.removed
    kept = engine.keep(share, "shared")
    removed = cleaned.removed | {"user_share": engine.count(log.events) - engine.count(kept)}
    return dataclasses.replace(log, events=kept), removed


def _write_cleaned(
    engine: Engine,
    log: CodedLog,
    split: splits.Split,
    numbers: ir.Table,
    settings: LogSettings,
    folder: Path,
) -> ir.Table:
    """Writes events with final users and sessions, and the item codes; returns the events."""
    rows = number_sessions(split.events, settings.cleaning.session_gap_seconds)
    mine = numbers.filter(numbers.code.notnull()).select(number="user", user="code")
    joined = rows.inner_join(mine, "user")
    others = [name for name in rows.columns if name not in ("user", "session_id")]
    engine.write(joined.select(*others, user=joined.number), folder / _EVENTS)
    engine.write(log.items, folder / _ITEMS)
    return engine.read(folder / _EVENTS)


def _write_shown(
    engine: Engine,
    shown: ir.Table,
    log: CodedLog,
    numbers: ir.Table,
    final: ir.Table,
    split: splits.Split,
    folder: Path,
) -> dict[str, int]:
    """Writes impressions of numbered users with their part; returns the counts."""
    coded = shown.left_join(log.items, "item_id")
    coded = coded.select(*shown.columns, item=coded.item.fill_null(NO_ITEM).cast("int32"))
    ours = coded.inner_join(numbers.select("user_id", "user"), "user_id").drop("user_id", "item_id")
    parted = impressions.assign_parts(ours, final, split.facts)
    num_rows = engine.write(parted, folder / _IMPRESSIONS)
    return {"impressions": num_rows, "of_unknown_users": engine.count(shown) - num_rows}


def _count_parts(
    engine: Engine, final: ir.Table, settings: LogSettings
) -> dict[str, dict[str, int]]:
    """Returns {"events": {part: n}, "users": {...}, "targets": {...}}."""
    target = splits.is_target(final, _target_ids(settings)).cast("int64")
    counts = final.group_by("part").agg(
        events=final.count(), users=final.user.nunique(), targets=target.sum()
    )
    found = {row["part"]: row for row in engine.rows(counts)}
    return {
        kind: {
            name: int(found[part][kind]) if part in found else 0
            for part, name in enumerate(splits.PARTS)
        }
        for kind in ("events", "users", "targets")
    }


def _encode(engine: Engine, source: Path, ids: ir.Table, path: Path) -> int:
    rows = engine.read_embedded(source)
    joined = rows.left_join(ids, "item")
    item = joined.id.fill_null(UNK).cast("int32")
    columns = {name: item if name == "item" else joined[name] for name in rows.columns}
    typed = {name: columns.pop(name).cast(TYPES[name]) for name in TYPES if name in columns}
    return engine.write(joined.select(**typed, **columns), path, SORTED_BY, leave_out=("row",))
