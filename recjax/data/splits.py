"""Who is trained on what: every event gets part 0 (train), 1 (valid) or 2 (test).

Five methods (config.prepare.split): a global time cut, leave one out, held-out users, held-out
items, and folds of users. Choices at random follow the MD5 of seed and id, so they are the same on
every backend and a smaller share is part of a larger one. leakage.py checks the result.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import ibis
import ibis.expr.types as ir

from recjax.data.codes import NO_ITEM, CodedLog
from recjax.data.engine import Engine
from recjax.data.settings import SplitConfig
from recjax.errors import UserError

TRAIN, VALID, TEST = 0, 1, 2
PARTS = ("train", "valid", "test")
_DAY = 86400


@dataclasses.dataclass(frozen=True)
class Split:
    """Events with their part.

    Attributes:
        events: as handed in, and part int8.
        facts: method, and for "time" valid_time and test_time: the first second of either part.
    """

    events: ir.Table
    facts: dict[str, Any]


def split_events(
    engine: Engine, log: CodedLog, config: SplitConfig, target_actions: Sequence[int]
) -> Split:
    """Gives every event its part.

    Args:
        engine: the table engine.
        log: cleaned events with users and items by code.
        config: method and shares.
        target_actions: ids of the actions that count as a target; () = all.

    Raises:
        UserError: if the log has too few users, items, times or targets for the method.
    """
    if config.method == "time":
        return _split_by_time(engine, log, config)
    if config.method == "leave_one_out":
        return Split(_leave_one_out(log.events, target_actions), {"method": config.method})
    side, ids = ("item", log.items) if config.method == "cold_items" else ("user", log.users)
    holders = _hold_out(engine, log.events, ids, side, config)
    joined = log.events.left_join(holders, side)
    parts = joined.part.fill_null(TRAIN).cast("int8")
    return Split(
        joined.select(*log.events.columns, part=parts), {"method": config.method, "held_out": side}
    )


def keep_share(engine: Engine, log: CodedLog, config: SplitConfig) -> ir.Table:
    """Returns the events of a random share of the users (config.user_share, config.user_fold)."""
    if config.user_share == 1:
        return log.events
    ranked = engine.keep(_ranked(log.events, log.users, "user", f"share:{config.seed}"), "ranked")
    num_users = max(1, round(config.user_share * engine.count(ranked)))
    first = config.user_fold * num_users
    within = (ranked.place >= first) & (ranked.place < first + num_users)
    kept = engine.keep(ranked.filter(within).select("user"), "share")
    return log.events.semi_join(kept, "user")


def check_parts(counts: dict[str, dict[str, int]], config: SplitConfig) -> None:
    """Fails if a part is empty or, in valid and test, holds no target.

    Args:
        counts: {"events": {part: n}, "users": {...}, "targets": {...}}.
        config: the split, for the message.

    Raises:
        UserError: says what the split needs.
    """
    for part in PARTS:
        kind = "events" if part == "train" else "targets"
        if counts[kind][part]:
            continue
        if config.method == "leave_one_out":
            raise UserError(
                "config.prepare.split.method='leave_one_out' needs users with at least 3 target "
                "events (train, valid, test); no user has them. Use more data, 'time', or more "
                "config.prepare.target_actions"
            )
        raise UserError(
            f"config.prepare.split.method={config.method!r} leaves no {kind} in the {part} part "
            f"(events by part: {counts['events']}); raise its share, or count more actions as "
            "targets (config.prepare.target_actions)"
        )


def is_target(events: ir.Table, target_actions: Sequence[int]) -> ir.BooleanValue:
    """Returns whether an event can be a target: it has an item and a target action."""
    has_item = events.item != NO_ITEM
    return has_item & events.action.isin(list(target_actions)) if target_actions else has_item


def _split_by_time(engine: Engine, log: CodedLog, config: SplitConfig) -> Split:
    if not log.has_clock:
        raise UserError(
            "config.prepare.split.method='time' needs clock times, but this log only has an order "
            "of events; use 'leave_one_out'"
        )
    events = log.events
    num_events = engine.count(events)
    shares = (1 - config.valid_share - config.test_share, 1 - config.test_share)
    cuts = _times_at(engine, events, [math.floor(share * num_events + 1e-9) for share in shares])
    valid_time, test_time = cuts[0], max(cuts)
    if test_time == valid_time:
        later = events.filter(events.timestamp > valid_time)
        test_time = engine.rows(later.aggregate(first=later.timestamp.min()))[0]["first"]
    if test_time is None or not engine.count(events.filter(events.timestamp < valid_time).limit(1)):
        raise UserError(
            "config.prepare.split.method='time' needs three spans of time, but the log's times are "
            "too few or too alike for the shares asked for; use 'leave_one_out' or other shares"
        )
    times = events.timestamp
    part = (times >= valid_time).cast("int8") + (times >= test_time).cast("int8")
    facts = {"method": "time", "valid_time": int(valid_time), "test_time": int(test_time)}
    return Split(events.mutate(part=part.cast("int8")), facts)


def _times_at(engine: Engine, events: ir.Table, ranks: list[int]) -> list[int]:
    """Returns the times of the events at `ranks` in time order, by day, then within the day."""
    days = _cumulated(engine, events.select(time=events.timestamp // _DAY))
    found = []
    for rank in ranks:
        day, before = next((day, end - num) for day, num, end in days if end > rank)
        inside = events.filter(events.timestamp // _DAY == day).select(time="timestamp")
        seconds = _cumulated(engine, inside)
        found.append(next(time for time, _, end in seconds if end > rank - before))
    return found


def _cumulated(engine: Engine, times: ir.Table) -> list[tuple[int, int, int]]:
    """Returns (time, events, events up to its end) in time order."""
    end, result = 0, []
    counts = times.group_by("time").agg(num=times.count()).order_by("time")
    for row in engine.rows(counts):
        end += row["num"]
        result.append((row["time"], row["num"], end))
    return result


def _leave_one_out(events: ir.Table, target_actions: Sequence[int]) -> ir.Table:
    """The last target opens a user's test part, the one before it the valid part.

    Users with fewer than three targets are all training.
    """
    marked = events.mutate(is_target=is_target(events, target_actions).cast("int32"))
    order = [marked.timestamp, marked.row]
    up_to_now = ibis.window(group_by=marked.user, order_by=order, preceding=None, following=0)
    total = marked.is_target.sum().over(ibis.window(group_by=marked.user))
    later_targets = total - marked.is_target.sum().over(up_to_now)
    part = ibis.cases(
        (total < 3, TRAIN), (later_targets == 0, TEST), (later_targets == 1, VALID), else_=TRAIN
    )
    return marked.mutate(part=part.cast("int8")).drop("is_target")


def _hold_out(
    engine: Engine, events: ir.Table, ids: ir.Table, side: str, config: SplitConfig
) -> ir.Table:
    """Returns `side` and part of the held-out users or items."""
    salt = f"{config.method}:{config.seed}"
    present = events.filter(events.item != NO_ITEM)
    ranked = engine.keep(_ranked(present, ids, side, salt), "ranked")
    total = engine.count(ranked)
    needed = config.num_folds if config.method == "folds" else 3
    if total < needed:
        raise UserError(
            f"config.prepare.split.method={config.method!r} needs at least {needed} {side}s; after "
            f"cleaning the log has {total}"
        )
    if config.method == "folds":
        fold = ranked.place % config.num_folds
        part = ibis.cases(
            (fold == config.fold, TEST),
            (fold == (config.fold + 1) % config.num_folds, VALID),
            else_=TRAIN,
        )
    else:
        num_test = max(1, round(config.test_share * total))
        num_valid = max(1, round(config.valid_share * total))
        part = ibis.cases(
            (ranked.place < num_test, TEST),
            (ranked.place < num_test + num_valid, VALID),
            else_=TRAIN,
        )
    return engine.keep(ranked.select(side, part=part.cast("int8")), "held_out")


def _ranked(events: ir.Table, ids: ir.Table, side: str, salt: str) -> ir.Table:
    """Returns `side` and its place (0, 1, ...) in an order that only salt and id decide."""
    present = ids.semi_join(events.select(side).distinct(), side)
    digest = (ibis.literal(f"{salt}:") + present[f"{side}_id"]).hexdigest("md5")
    hashed = present.mutate(digest=digest)
    place = ibis.row_number().over(order_by=[hashed.digest, hashed[side]])
    return hashed.select(side, place=place)
