"""What is taken out of a readable log: impossible clocks, repeats, bots, what is below the core.

All are Ibis expressions on the main backend, so DuckDB and Spark give the same rows. What to remove
is found first and kept (it is small); the log itself is then filtered without another copy of it.
Counts of removed rows go into profile.json. Rows that could not be read are quarantine.py's.
"""

import dataclasses

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from recjax.data import times
from recjax.data.codes import NO_ITEM, CodedLog
from recjax.data.engine import Engine
from recjax.data.settings import CleaningConfig
from recjax.errors import UserError

MINUTE, HOUR, DAY = 60, 3600, 86400


@dataclasses.dataclass(frozen=True)
class Cleaned:
    """What cleaning leaves.

    Attributes:
        events: the rows left, columns as in CodedLog.
        bots: user int32 of the users taken for bots.
        removed: reason to number of rows taken out.
        facts: other numbers for the profile (bot users, time resolution, core rounds).
    """

    events: ir.Table
    bots: ir.Table
    removed: dict[str, int]
    facts: dict[str, int]


def clean_events(engine: Engine, log: CodedLog, config: CleaningConfig) -> Cleaned:
    """Takes out what `config` asks for, in this order: clocks, repeats, bots, core.

    A log without clocks keeps all but the core's rows: its times only say what came first. Bot
    rules finer than the log's time resolution (say days) are left out.

    Raises:
        UserError: if no event is left; says which rule took how many rows.
    """
    events, removed, facts = log.events, {}, {}
    num_rows = engine.count(events)
    total = num_rows
    if log.has_clock:
        events = drop_impossible_clocks(events, *times.clock_range(config))
        removed["impossible_clock"] = num_rows - (num_rows := engine.count(events))
        events, removed["duplicate"] = drop_duplicates(engine, events, config.drop_duplicates)
        num_rows -= removed["duplicate"]
        facts["resolution_seconds"] = time_resolution(engine, events) if num_rows else 1
    bots = engine.keep(find_bots(events, config, facts.get("resolution_seconds", 0)), "bots")
    facts["bot_users"] = engine.count(bots)
    if facts["bot_users"]:
        events = events.anti_join(bots, "user")
        removed["bot"] = num_rows - (num_rows := engine.count(events))
    events, facts["core_rounds"] = keep_core(engine, events, config.user_core, config.item_core)
    removed["below_core"] = num_rows - (num_rows := engine.count(events))
    if not num_rows:
        counts = ", ".join(f"{reason} {count}" for reason, count in removed.items() if count)
        raise UserError(
            f"cleaning leaves none of {total} events (rows taken out: {counts}); loosen "
            "config.prepare.cleaning (earliest_time, bot_*, user_core, item_core)"
        )
    return Cleaned(events, bots, removed, facts)


def drop_impossible_clocks(events: ir.Table, earliest: int, latest: int) -> ir.Table:
    """Keeps events with earliest <= timestamp <= latest (seconds)."""
    return events.filter((events.timestamp >= earliest) & (events.timestamp <= latest))


def drop_duplicates(engine: Engine, events: ir.Table, wanted: bool) -> tuple[ir.Table, int]:
    """Keeps the first row of each (user, item, action, second); returns how many go."""
    if not wanted:
        return events, 0
    key = ["user", "item", "action", "timestamp"]
    groups = events.group_by(key).agg(first_row=events.row.min(), num=events.count())
    repeated = engine.keep(groups.filter(groups.num > 1), "repeated")
    extra = engine.rows(repeated.aggregate(num=(repeated.num - 1).sum()))[0]["num"]
    if not extra:
        return events, 0
    later = events.left_join(repeated, key)
    is_first = later.first_row.isnull() | (later.row == later.first_row)
    return later.filter(is_first).select(*events.columns), int(extra)


def time_resolution(engine: Engine, events: ir.Table) -> int:
    """Returns the coarsest of day, hour, minute, second that all times are multiples of."""
    first = engine.rows(events.aggregate(first=events.timestamp.min()))[0]["first"]
    since = events.timestamp - int(first)
    rests = {f"rest_{step}": (since % step).max() for step in (DAY, HOUR, MINUTE)}
    found = engine.rows(events.aggregate(**rests))[0]
    return next((step for step in (DAY, HOUR, MINUTE) if found[f"rest_{step}"] == 0), 1)


def find_bots(events: ir.Table, config: CleaningConfig, resolution_seconds: int) -> ir.Table:
    """Returns the users (one column, user) that act too fast or too evenly.

    Args:
        events: user, timestamp (seconds), row.
        config: the limits; 0 turns a rule off.
        resolution_seconds: of the clock; 0 if there is none. Rules that need a finer one are off:
            a basket written within one minute is no proof of speed where minutes are all there is.
    """
    found = [events.select("user").limit(0)]
    for limit, span in (
        (config.bot_max_events_per_minute, MINUTE),
        (config.bot_max_events_per_day, DAY),
    ):
        if limit and 0 < resolution_seconds < span:
            found.append(_fast_users(events, limit, span))
    if config.bot_min_gap_regularity and 0 < resolution_seconds <= MINUTE:
        found.append(_regular_users(events, config.bot_min_gap_regularity, config.bot_min_events))
    # Set operations want one and the same type, nullable or not.
    return ibis.union(*(users.cast({"user": dt.int32}) for users in found), distinct=True)


def _fast_users(events: ir.Table, limit: int, span_seconds: int) -> ir.Table:
    spans = events.select("user", span=events.timestamp // span_seconds)
    counts = spans.group_by(["user", "span"]).agg(num=spans.count())
    return counts.filter(counts.num > limit).select("user")


def _regular_users(events: ir.Table, limit: float, min_events: int) -> ir.Table:
    """Users whose gaps hardly vary: standard deviation below `limit` times the mean."""
    counts = events.group_by("user").agg(num=events.count())
    busy = events.semi_join(counts.filter(counts.num >= max(min_events, 3)), "user")
    window = ibis.window(group_by=busy.user, order_by=[busy.timestamp, busy.row])
    gap = busy.timestamp - busy.timestamp.lag(1).over(window)
    gaps = busy.select("user", gap=gap.cast("float64"))
    spread = gaps.group_by("user").agg(mean=gaps.gap.mean(), std=gaps.gap.std(how="pop"))
    return spread.filter((spread.mean > 0) & (spread.std < limit * spread.mean)).select("user")


def keep_core(
    engine: Engine, events: ir.Table, user_core: int, item_core: int
) -> tuple[ir.Table, int]:
    """Keeps users and items with enough events, repeated until nothing changes.

    Events without an item count for nobody; they stay if their user does. Without an item core one
    round is enough, because a user's count does not depend on other users.

    Returns:
        The events left and the number of rounds it took.

    Reference:
        Seidman (1983), "Network structure and minimum degree" (the k-core, here of a bipartite
        graph with one bound per side and multiple edges counted).
    """
    items = events.filter(events.item != NO_ITEM)
    if item_core <= 1:
        counts = items.group_by("user").agg(num=items.count())
        users = counts.filter(counts.num >= user_core)
        return (events.semi_join(users, "user"), 1) if user_core > 1 else (events, 0)
    pairs = engine.keep(items.group_by(["user", "item"]).agg(num=items.count()), "pairs")
    num_pairs, rounds = engine.count(pairs), 0
    while True:
        rounds += 1
        pairs = _above(_above(pairs, "user", user_core), "item", item_core)
        pairs = engine.keep(pairs, f"core_{rounds}")
        if num_pairs == (num_pairs := engine.count(pairs)):
            break
    users = engine.keep(pairs.select("user").distinct(), "core_users")
    kept = engine.keep(pairs.select("item").distinct(), "core_items")
    of_users = events.semi_join(users, "user")
    no_item = of_users.filter(of_users.item == NO_ITEM)
    return ibis.union(of_users.semi_join(kept, "item"), no_item), rounds


def _above(pairs: ir.Table, side: str, core: int) -> ir.Table:
    if core <= 1:
        return pairs
    counts = pairs.group_by(side).agg(total=pairs.num.sum())
    return pairs.semi_join(counts.filter(counts.total >= core), side)
