"""What check.py found, as text for a terminal and as a ready config file."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recjax.data.check_columns import NAMES, Guess
from recjax.data.settings import EventsConfig
from recjax.data.sources import SourceFile
from recjax.data.times import TimeFormat, as_text

_MAX_PROBLEMS = 12


@dataclasses.dataclass(frozen=True)
class Problem:
    """Rows that prepare will not use.

    Attributes:
        what: the reason, in words.
        count: how many rows.
        rows: the first of them, each as "12" or as "FILE row 12: VALUES".
        advice: what can be done, or "".
    """

    what: str
    count: int
    rows: tuple[str, ...] = ()
    advice: str = ""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What the log will cost.

    Attributes:
        prepare_seconds: wall time of prepare on this machine.
        prepare_memory_gib: most that prepare holds.
        disk_gib: work directory after prepare, scratch files included.
        embedding_gib: item embeddings of one member with their optimizer state.
    """

    prepare_seconds: float
    prepare_memory_gib: float
    disk_gib: float
    embedding_gib: float


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """What was found; see render_report for a person's view.

    Attributes:
        path: as given.
        files: the described files.
        guesses: our column to guess.
        events: settings that read this log.
        new_actions: actions of the log that the config at hand does not know; events has them.
        split_method: proposed for config.prepare.split.method.
        time: how times are written.
        profile: of the readable events, before cleaning.
        bad_share: rows for quarantine, of all rows.
        problems: most rows first.
        estimate: time and memory.
        seconds: wall time of the check.
    """

    path: str
    files: tuple[SourceFile, ...]
    guesses: Mapping[str, Guess]
    events: EventsConfig
    new_actions: tuple[str, ...]
    split_method: str
    time: TimeFormat
    profile: Mapping[str, Any]
    bad_share: float
    problems: tuple[Problem, ...]
    estimate: Estimate
    seconds: float


def render_report(report: CheckReport) -> str:
    """Returns the report as plain text, at most 100 columns wide where the data allow it."""
    blocks = [_source(report), _mapping(report), _profile(report), _problems(report), _cost(report)]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def render_config(report: CheckReport, base: str = "your_log") -> str:
    """Returns a complete config file that reads this log and runs the whole path.

    Args:
        report: of check_log.
        base: the module of configs/ that it starts from.
    """
    data = report.events
    settings: dict[str, str] = {
        "name": Path(report.path).name.partition(".")[0] or "log",
        "data.path": str(Path(report.path).absolute()),
        "data.format": data.format,
    }
    if data.format == "csv":
        settings["data.delimiter"] = data.delimiter
    if data.format != "sequences":
        names = [name for name in NAMES if name in data.columns]
        settings |= {f"data.columns.{name}": data.columns[name] for name in names}
    settings["data.default_action"] = data.default_action
    settings["prepare.split.method"] = report.split_method
    lines = [f"    config.{key} = {_quoted(value)}" for key, value in settings.items()]
    if report.bad_share > 0:
        share = f"max(config.prepare.max_quarantine_share, {report.bad_share + 0.01:.2f})"
        lines.append(f"    # {report.bad_share:.1%} of the rows of this file cannot be used.")
        lines.append(f"    config.prepare.max_quarantine_share = {share}")
    if report.new_actions:
        added = ", ".join(_quoted(name) for name in report.new_actions)
        lines.append(f"    config.data.actions = (*config.data.actions, {added})")
    if data.action_names:
        renamed = [f"{_quoted(a)}: {_quoted(b)}" for a, b in data.action_names.items()]
        lines.append(f"    config.data.action_names = ConfigDict({{{', '.join(renamed)}}})")
    return _FILE.format(
        path=report.path,
        events=report.profile["events"],
        users=report.profile["users"],
        items=report.profile["items"],
        base=base,
        lines="\n".join(lines),
    )


_FILE = '''"""{path}: written by the check stage; read it, correct what is wrong, run it.

{events} events, {users} users, {items} items.

Command:  python -m recjax.main --config THIS_FILE --workdir WORKDIR
"""

from ml_collections import ConfigDict

from configs import {base}


def get_config() -> ConfigDict:
    """Returns the configuration for this log."""
    config = {base}.get_config()
{lines}
    return config
'''


def _source(report: CheckReport) -> list[str]:
    file = report.files[0]
    kind = file.format
    if kind == "csv":
        header = "with" if file.has_header else "without"
        kind = f"csv, fields parted by {file.delimiter!r}, {header} a header line"
    return [
        f"{report.path}: {len(report.files)} file(s), {kind}",
        f"  read in {report.seconds:.1f} s; columns: {', '.join(file.columns[:20])}",
    ]


def _mapping(report: CheckReport) -> list[str]:
    lines = ["Columns (config.data.columns)"]
    if report.events.format == "sequences":
        lines = ["Columns: a user, then its items in order, on each line"]
    else:
        lines += [
            f"  {ours:<14} {guess.column:<24} by its {guess.why}"
            for ours, guess in report.guesses.items()
            if ours in report.events.columns
        ]
    if "action" not in report.guesses:
        lines.append(f"  no action column: every event is {report.events.default_action!r}")
    renamed = ", ".join(f"{theirs} = {ours}" for theirs, ours in report.events.action_names.items())
    lines += [f"  actions: {renamed}"] * bool(renamed)
    added = ", ".join(report.new_actions)
    lines += [f"  added to config.data.actions (rename them if you know better): {added}"] * bool(
        added
    )
    if report.events.format != "sequences" and "timestamp" not in report.guesses:
        lines.append("  no column holds readable times: the order of the rows is taken for it")
    how = report.time.unit + (f" {report.time.pattern}" if report.time.pattern else "")
    return [*lines, f"  times: {how}; split: {report.split_method}"]


def _profile(report: CheckReport) -> list[str]:
    profile: Mapping[str, Any] = report.profile
    lines = ["Profile (readable rows, before cleaning)"]
    for name in ("events", "users", "items", "sessions"):
        lines.append(f"  {name:<10} {profile[name]:>14,}")
    per_user = profile["events_per_user"]
    lines.append(
        f"  events per user: mean {per_user['mean']:.1f}, median {per_user['median']}, "
        f"90 % up to {per_user['p90']}, most {per_user['max']}"
    )
    lines.append(f"  90 % of the events fall on {profile['items_90pct_of_events']:,} items")
    counts = ", ".join(f"{name} {count:,}" for name, count in profile["actions"].items())
    lines.append(f"  actions: {counts}")
    if report.time.unit != "order":
        first, last = as_text(profile["first_time"]), as_text(profile["last_time"])
        lines.append(f"  from {first} to {last} (UTC)")
    return lines


def _problems(report: CheckReport) -> list[str]:
    if not report.problems:
        return ["Problems: none found"]
    lines = ["Problems (rows that prepare will not use; counted from 1 without the header)"]
    for problem in report.problems[:_MAX_PROBLEMS]:
        lines.append(f"  {problem.count:,} x {problem.what} ({problem.advice})")
        long = any(":" in row for row in problem.rows)
        rows = problem.rows if long else (f"rows {', '.join(problem.rows)}, ...",)
        lines += [f"      {row}" for row in rows if problem.rows]
    return lines


def _cost(report: CheckReport) -> list[str]:
    cost = report.estimate
    return [
        "Estimate",
        f"  prepare: {cost.prepare_seconds:,.0f} s, {cost.prepare_memory_gib:.1f} GiB of memory, "
        f"{cost.disk_gib:.2f} GiB of disk",
        f"  item embeddings: {cost.embedding_gib:.3f} GiB per member, optimizer state included",
    ]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
