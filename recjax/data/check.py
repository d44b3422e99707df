"""A look at a stranger's log: what it is, how its columns map, what is wrong, what it will cost.

`check_log` reads the whole file as prepare would, but stops at nothing that can be told instead.
The stage prints `render_report` and writes `render_config` (check_report.py). No file is left.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import pyarrow.parquet as pq

from recjax.data import check_columns, cleaning, events, readers, sources, times
from recjax.data.check_report import CheckReport, Estimate, Problem
from recjax.data.codes import CodedLog, code_events
from recjax.data.engine import Engine
from recjax.data.profile import make_profile
from recjax.data.quarantine import Quarantine
from recjax.data.settings import EventsConfig, LogSettings
from recjax.data.sources import SourceFile
from recjax.errors import UserError

_NUM_ROWS = 5  # row numbers shown per problem
_MAX_ACTIONS = 50  # distinct values of a column that can be actions
_BYTES_PER_EVENT = 40  # scratch files, events.parquet and examples together, measured


def check_log(
    path: str, settings: LogSettings, scratch: Path, *, embedding_dim: int = 64
) -> CheckReport:
    """Looks at the log at `path` and proposes how to read it.

    Args:
        path: a file, a glob or a folder of Parquet files.
        settings: of the config at hand; its column mapping is replaced by the proposal, its format
            and delimiter are kept if they are not "auto".
        scratch: folder for temporary files; removed at the end.
        embedding_dim: width of the item embeddings that the estimate counts.

    Raises:
        UserError: if there is no file, no user or item column can be found, or nothing is readable.
    """
    start = time.monotonic()
    with Engine(settings.engine, scratch) as engine:
        files = _describe(path, settings.events)
        values = _first_values(engine, files[0])
        num_rows = max((len(column) for column in values.values()), default=0)
        guesses = check_columns.guess_columns(files[0], values, num_rows)
        config = _propose(engine, files[0], path, guesses, settings.events)
        quarantine = Quarantine(engine, max_share=1.0)
        typed = events.read_events(engine, config, quarantine)
        log = code_events(engine, typed, path)
        gap = settings.cleaning.session_gap_seconds
        profile = make_profile(engine, log.events, config.actions, gap)
        bad = _unreadable(engine, quarantine, scratch)
        read_seconds = time.monotonic() - start
        num_bad = sum(problem.count for problem in bad)
        problems = [*bad, *_doubtful(engine, log, settings.cleaning, files)]
    return CheckReport(
        path,
        tuple(files),
        guesses,
        config,
        tuple(name for name in config.actions if name not in settings.events.actions),
        "time" if log.has_clock else "leave_one_out",
        typed.time,
        profile,
        num_bad / max(num_bad + profile["events"], 1),
        tuple(sorted(problems, key=lambda problem: -problem.count)),
        _estimate(profile, read_seconds, settings.engine.memory_gib, embedding_dim),
        time.monotonic() - start,
    )


def _describe(path: str, config: EventsConfig) -> list[SourceFile]:
    files = []
    for file_path in sources.find_files(path, "config.data.path"):
        file = sources.describe(file_path, config.format, config.delimiter)
        if file.format == "csv" and check_columns.looks_headerless(file.columns):
            file = sources.describe(file_path, config.format, config.delimiter, ("column0",))
        files.append(file)
    return files


def _first_values(engine: Engine, file: SourceFile) -> dict[str, list[Any]]:
    raw = readers.open_mapped(engine, file, {name: name for name in file.columns})
    kept = engine.keep(raw.limit(10_000), "first_rows")
    return {name: readers.sample(engine, kept, name) for name in file.columns}


def _propose(
    engine: Engine,
    file: SourceFile,
    path: str,
    guesses: Mapping[str, check_columns.Guess],
    config: EventsConfig,
) -> EventsConfig:
    """Returns settings that read the log with the guessed columns."""
    for ours in ("user_id", "item_id"):
        if ours not in guesses:
            raise UserError(
                f"{path}: no column looks like {ours}; it has: {', '.join(file.columns[:30])}. Set "
                f"config.data.columns.{ours} and run prepare"
            )
    sequences = file.format == "sequences"
    columns = {ours: guesses[ours].column if ours in guesses else "" for ours in config.columns}
    names: dict[str, str] = {}
    actions = list(config.actions)
    if columns["action"]:
        for value in _distinct(engine, file, columns["action"]):
            ours = check_columns.guess_action(value) or _as_action(value)
            actions += [] if ours in actions else [ours]
            names |= {value: ours} if value.lower() != ours else {}
    return dataclasses.replace(
        config,
        source="file",
        path=path,
        format=file.format,
        delimiter=file.delimiter if file.format == "csv" else "auto",
        columns=dict(config.columns) if sequences else columns,
        action_names=names,
        actions=tuple(actions),
        default_action=_only_action(columns, config),
        time_unit="auto",
        impressions_path="",
    )


def _only_action(columns: Mapping[str, str], config: EventsConfig) -> str:
    """What every event of a log without actions is: a rating if it has ratings."""
    rates = columns["rating"] and not columns["action"] and "rate" in config.actions
    return "rate" if rates else config.default_action


def _distinct(engine: Engine, file: SourceFile, column: str) -> list[str]:
    raw = readers.open_mapped(engine, file, {"action": column})
    values = raw.select(value=readers.as_id(raw.action))
    counts = values.group_by("value").agg(num=values.count())
    top = counts.filter(counts.value.notnull()).order_by([counts.num.desc(), "value"])
    return [row["value"] for row in engine.rows(top.limit(_MAX_ACTIONS))]


def _as_action(value: str) -> str:
    """A name for an action that recjax does not know; a bare code gets a word before it."""
    return f"action_{value}" if value[:1].isdigit() else value.lower()


def _unreadable(engine: Engine, quarantine: Quarantine, scratch: Path) -> list[Problem]:
    path = scratch / "bad.parquet"
    counts = quarantine.write(path)
    problems = []
    for reason, count in counts.items():
        first = pq.read_table(path, filters=[("reason", "=", reason)]).slice(0, _NUM_ROWS)
        rows = tuple(
            f"{Path(row['source']).name} row {row['row']}: {row['values'][:120]}"
            for row in first.to_pylist()
        )
        problems.append(Problem(reason, count, rows, "goes to quarantine"))
    return problems


def _doubtful(
    engine: Engine, log: CodedLog, config: Any, files: Sequence[SourceFile]
) -> list[Problem]:
    """Returns what cleaning would take out, rule by rule on the whole log."""
    rows, problems = log.events, []
    resolution = 0
    if log.has_clock:
        in_time = cleaning.drop_impossible_clocks(rows, *times.clock_range(config))
        impossible = rows.anti_join(in_time, "row")
        problems.append(
            _problem(engine, impossible, "impossible clock", "before or after the range")
        )
        kept, num_repeated = cleaning.drop_duplicates(engine, in_time, True)
        if num_repeated:
            repeated = in_time.anti_join(kept, "row")
            problems.append(_problem(engine, repeated, "repeated event", "one of them is kept"))
        rows = kept
        resolution = cleaning.time_resolution(engine, rows) if engine.count(rows.limit(1)) else 1
    bots = engine.keep(cleaning.find_bots(rows, config, resolution), "bots")
    of_bots = rows.semi_join(bots, "user")
    advice = f"{engine.count(bots)} users; see config.prepare.cleaning.bot_*"
    problems.append(_problem(engine, of_bots, "event of a bot", advice))
    core, _ = cleaning.keep_core(
        engine, rows.anti_join(bots, "user"), config.user_core, config.item_core
    )
    below = rows.anti_join(bots, "user").anti_join(core, "user")
    advice = f"config.prepare.cleaning.user_core={config.user_core}"
    problems.append(_problem(engine, below, "user with too few events", advice))
    if len(files) > 1:  # row numbers would run through all files
        problems = [dataclasses.replace(problem, rows=()) for problem in problems]
    return [problem for problem in problems if problem.count]


def _problem(engine: Engine, rows: ir.Table, what: str, advice: str) -> Problem:
    first = engine.rows(rows.select("row").order_by("row").limit(_NUM_ROWS))
    return Problem(what, engine.count(rows), tuple(str(row["row"]) for row in first), advice)


def _estimate(
    profile: Mapping[str, Any], read_seconds: float, memory_gib: float, embedding_dim: int
) -> Estimate:
    num_events = profile["events"]
    embedding = profile["items"] * embedding_dim * 4 * 3  # float32; Adam keeps two more of each
    return Estimate(
        prepare_seconds=3 * read_seconds,  # reading and profile are about a third of it, measured
        prepare_memory_gib=min(memory_gib + 1.0, 0.5 + 2e-7 * num_events),
        disk_gib=num_events * _BYTES_PER_EVENT / 2**30,
        embedding_gib=embedding / 2**30,
    )
