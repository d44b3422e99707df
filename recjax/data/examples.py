"""From prepared/events.parquet to example records: sequences, next_item and click.

The log is streamed by blocks of whole users: memory does not grow with it. What a record holds on
disk is in `records.py`; click examples are made in `click_examples.py`; batches in `loading.py`.
Called by the prepare stage; the expansion stage calls `write_sequences`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recjax.data.click_examples import (
    ClickMaker,
    ClickThinning,
    clicks_of_events,
    clicks_of_impressions,
    count_targets,
)
from recjax.data.record_sources import (
    CachedSource,
    ConcatenatedSource,
    ExampleSource,
    LimitedSource,
    open_examples,
)
from recjax.data.records import (
    SPLITS,
    ExampleWriter,
    Record,
    fresh_partial,
    replace_folder,
)
from recjax.data.user_blocks import UserBlock, iter_user_blocks
from recjax.data.vocabulary import UNK
from recjax.errors import UserError

__all__ = [
    "CachedSource",
    "ConcatenatedSource",
    "ExampleConfig",
    "ExampleFacts",
    "ExampleSource",
    "ExampleWriter",
    "LimitedSource",
    "open_examples",
    "write_examples",
    "write_sequences",
]

EVENT_COLUMNS = ("item", "action", "timestamp", "session", "part")
SEARCH = "search"
HISTORY_FIELDS = {
    "items": "item",
    "actions": "action",
    "times": "timestamp",
    "sessions": "session",
}


@dataclass(frozen=True)
class ExampleConfig:
    """Settings of the examples.

    Attributes:
        actions: names of the log's actions; an event's action is an index into it.
        target_actions: names that count as a target; () = all that carry an item.
        max_history: events kept in one next-item or click example.
        click_negatives: sampled negatives per event where the log has no impressions.
        max_click_examples: click records per part; more are thinned evenly; 0 = no limit.
        seed: of thinning and negatives.
    """

    actions: tuple[str, ...]
    target_actions: tuple[str, ...] = ()
    max_history: int = 50
    click_negatives: int = 4
    max_click_examples: int = 200_000
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.target_actions if name not in self.actions]
        if unknown:
            raise UserError(
                f"prepare.target_actions: unknown action {unknown[0]!r}; data.actions has "
                f"{', '.join(self.actions)}"
            )
        if SEARCH in self.target_actions:
            raise UserError("prepare.target_actions: a search has no item and cannot be a target")
        if self.max_history < 1:
            raise UserError(f"prepare.max_history must be at least 1, got {self.max_history}")

    @property
    def is_target(self) -> np.ndarray:
        """Which actions count as a target, bool [A]."""
        names = self.target_actions or [name for name in self.actions if name != SEARCH]
        return np.array([name in names for name in self.actions])

    @property
    def carries_item(self) -> np.ndarray:
        """Which actions carry an item, bool [A]: every one but search."""
        return np.array([name != SEARCH for name in self.actions])


@dataclass
class ExampleFacts:
    """What was written.

    Attributes:
        records: data set -> split -> number of records.
        num_events: rows of events.parquet read, searches included.
        users_without_target: part name -> users of that part without a usable target.
        click_share: split -> share of the click targets that was kept.
    """

    records: dict[str, dict[str, int]] = field(default_factory=dict)
    num_events: int = 0
    users_without_target: dict[str, int] = field(default_factory=lambda: {"valid": 0, "test": 0})
    click_share: dict[str, float] = field(default_factory=dict)


def write_examples(
    events_path: str | Path,
    folder: str | Path,
    config: ExampleConfig,
    *,
    num_items: int,
    impressions_path: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> ExampleFacts:
    """Writes sequences, next_item and click examples into `folder`, whole or not at all.

    Args:
        events_path: prepared/events.parquet, sorted by user and time.
        folder: prepared/examples; replaced if it is there.
        config: settings.
        num_items: items in the vocabulary, specials not counted; negatives are drawn from them.
        impressions_path: prepared/impressions.parquet, sorted by user and time, if the log has one.
        progress: called now and then with the number of events done.

    Returns:
        Counts of what was written and left out.

    Raises:
        UserError: if an input is missing, unsorted, or no user has a training event.
    """
    final = Path(folder)
    partial = fresh_partial(final)
    facts = ExampleFacts()
    thinning = _plan_thinning(events_path, impressions_path, config)
    facts.click_share = dict(zip(SPLITS, thinning.shares.tolist(), strict=True))
    names = ("sequences", "next_item", "click")
    writers = {name: ExampleWriter(partial, name) for name in names}
    try:
        clicks = _click_maker(impressions_path, config, thinning, num_items)
        for block in iter_user_blocks(events_path, EVENT_COLUMNS):
            facts.num_events += block.num_rows
            block = block.keep(config.carries_item[block.columns["action"]])
            for record in _sequences(block):
                writers["sequences"].write("train", record)
            for part in (1, 2):
                for record in _next_items(block, part, config, facts):
                    writers["next_item"].write(SPLITS[part], record)
            for part, record in clicks(block):
                writers["click"].write(SPLITS[part], record)
            if progress is not None:
                progress(facts.num_events)
        for part, record in clicks(None):
            writers["click"].write(SPLITS[part], record)
        if not writers["sequences"].num_records:
            raise UserError(f"{events_path}: no user has an event in the training part")
        facts.records = {name: writer.num_records for name, writer in writers.items()}
        for writer in writers.values():
            writer.close()
    except BaseException:
        for writer in writers.values():
            writer.abandon()
        shutil.rmtree(partial, ignore_errors=True)
        raise
    replace_folder(partial, final)
    return facts


def write_sequences(folder: str | Path, records: Iterable[Mapping[str, Any]]) -> int:
    """Writes synthetic `sequences` (split "train") into `folder`; returns how many.

    Args:
        folder: gets a sub-folder `sequences`, whole or not at all; open it again with
            `open_examples(folder, "sequences", "train")`.
        records: dicts with the fields of `records.SCHEMAS["sequences"]`, read one by one.

    Raises:
        ValueError: if a record has no events, or its arrays differ in length.
    """
    count = 0
    with ExampleWriter(folder, "sequences") as writer:
        for count, record in enumerate(records, 1):  # noqa: B007  (the count is the result)
            lengths = {len(record[name]) for name in HISTORY_FIELDS}
            if len(lengths) != 1 or 0 in lengths:
                raise ValueError(
                    f"record {count}: items, actions, times and sessions need one length of at "
                    f"least 1, got lengths {sorted(lengths)}"
                )
            writer.write("train", record)
    return count


def write_clicks(folder: str | Path, records: Iterable[Mapping[str, Any]]) -> int:
    """Writes synthetic `click` examples (split "train") into `folder`; returns how many.

    Args:
        folder: gets a sub-folder `click`, whole or not at all; open it again with
            `open_examples(folder, "click", "train")`.
        records: dicts with the fields of `records.SCHEMAS["click"]`, read one by one.
    """
    count = 0
    with ExampleWriter(folder, "click") as writer:
        for count, record in enumerate(records, 1):  # noqa: B007  (the count is the result)
            writer.write("train", record)
    return count


def _history(block: UserBlock, rows: np.ndarray | slice) -> Record:
    return {name: block.columns[column][rows] for name, column in HISTORY_FIELDS.items()}


def _sequences(block: UserBlock) -> Iterator[Record]:
    """Yields one record per user with training events: those events, in order."""
    train = block.keep(block.columns["part"] == 0)
    for i, user in enumerate(train.users):
        start, stop = train.offsets[i], train.offsets[i + 1]
        if stop > start:
            yield {
                "user": user,
                **_history(train, slice(start, stop)),
                "weight": 1.0,
                "source": 0,
            }


def _next_items(
    block: UserBlock, part: int, config: ExampleConfig, facts: ExampleFacts
) -> Iterator[Record]:
    """Yields for each user the first target of a part that has something before it.

    The history is everything before the target that is not of a later part. Brand-new users have
    nothing before their first event, so their second one is the target.
    """
    known = block.keep(block.columns["part"] <= part)
    row_user = known.row_user
    is_part = known.columns["part"] == part
    after_first = np.arange(known.num_rows) > known.offsets[:-1][row_user]
    is_target = is_part & after_first & config.is_target[known.columns["action"]]
    rows = np.flatnonzero(is_target)
    users, first = np.unique(row_user[rows], return_index=True)
    missing = len(np.unique(row_user[is_part])) - len(users)
    facts.users_without_target[SPLITS[part]] += missing
    for user, row in zip(users, rows[first], strict=True):
        start = known.offsets[user]
        seen = np.unique(known.columns["item"][start:row])
        yield {
            "user": known.users[user],
            **_history(known, slice(max(start, row - config.max_history), row)),
            "source": 0,
            "seen": seen[seen > UNK],
            "target_item": known.columns["item"][row],
            "target_action": known.columns["action"][row],
            "target_time": known.columns["timestamp"][row],
        }


def _plan_thinning(
    events_path: str | Path, impressions_path: str | Path | None, config: ExampleConfig
) -> ClickThinning:
    """Counts the click targets of each part, so that an even share of them can be kept."""
    if impressions_path is not None:
        counts, per_target = count_targets(impressions_path, None), 1
    else:
        counts, per_target = (
            count_targets(events_path, config.is_target),
            1 + config.click_negatives,
        )
    return ClickThinning.of_counts(counts * per_target, config.max_click_examples, config.seed)


def _click_maker(
    impressions_path: str | Path | None,
    config: ExampleConfig,
    thinning: ClickThinning,
    num_items: int,
) -> ClickMaker:
    if impressions_path is not None:
        return clicks_of_impressions(impressions_path, thinning, config.max_history)
    return clicks_of_events(
        thinning,
        is_target=config.is_target,
        num_negatives=config.click_negatives,
        num_items=num_items,
        max_history=config.max_history,
    )
