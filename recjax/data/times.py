"""Times of any unit as whole seconds since 1970 (UTC): guessing the unit, and the expression.

Used by events.py, impressions.py and users.py on the embedded engine. "order" means that a column
holds no clock but only which event came first.
"""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from recjax.data.settings import CleaningConfig
from recjax.errors import UserError

# Tried in this order; the first that reads all samples wins. ISO needs no pattern.
PATTERNS = (
    "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y", "%m/%d/%y %H:%M",
    "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y",
    "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y",
    "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d",
    "%Y%m%d%H%M%S", "%Y%m%d %H:%M:%S", "%Y%m%d", "%m %d, %Y", "%b %d, %Y", "%d %b %Y",
)  # fmt: skip
_PER_SECOND = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
# A clock shows 1973 to 2286 in seconds between these numbers; each finer unit is 1000 times that.
_SECONDS_RANGE = (1e8, 1e10)


@dataclasses.dataclass(frozen=True)
class TimeFormat:
    """How a time column is written.

    Attributes:
        unit: "seconds", "milliseconds", "microseconds", "nanoseconds", "text", "native" (the file
            has a time type) or "order".
        pattern: strptime pattern of unit "text"; "" for ISO date-times.
    """

    unit: str
    pattern: str = ""


def guess_time_format(samples: Sequence[Any], kind: str, unit: str = "auto") -> TimeFormat | None:
    """Returns how the times are written, or None if most samples cannot be read as any.

    Args:
        samples: some values of the column, without nulls.
        kind: Ibis type name of the column.
        unit: one of settings.TIME_UNITS; other than "auto" it is taken at its word.

    Example:
        >>> guess_time_format([1318896000, 1318896001], "int64")
        TimeFormat(unit='seconds', pattern='')
        >>> guess_time_format(["2019-11-24 00:03:13"], "string").unit
        'text'
        >>> guess_time_format(["31/12/2010 8:26"], "string").pattern
        '%d/%m/%Y %H:%M'
    """
    if unit == "order":
        return TimeFormat("order")
    if kind.startswith(("timestamp", "date")):
        return TimeFormat("native")
    if unit not in ("auto", "text"):
        return TimeFormat(unit)
    numbers = [number for number in map(_to_number, samples) if number is not None]
    if unit == "auto" and samples and 2 * len(numbers) > len(samples):
        return _guess_number(samples, sorted(numbers))
    return _guess_pattern([str(sample) for sample in samples])


def epoch_seconds(column: ir.Column, how: TimeFormat) -> ir.IntegerColumn:
    """Returns `column` as int64 seconds; null where it cannot be read. Not for unit "order"."""
    if how.unit == "native":
        return _whole_seconds(column.cast("timestamp"))
    if how.unit == "text":
        return _epoch_of_text(column.cast("string"), how.pattern)
    if not column.type().is_integer():
        number = column.try_cast("float64")
        return ibis.ifelse(_is_finite(number), (number / _PER_SECOND[how.unit]).floor(), None).cast(
            "int64"
        )
    return (column.cast("int64") // _PER_SECOND[how.unit]).cast("int64")


def clock_range(config: CleaningConfig) -> tuple[int, int]:
    """Returns the earliest and latest possible second of a log.

    Raises:
        UserError: if a time of `config` cannot be read, or the earliest is not before the latest.
    """
    earliest = _parse_setting("earliest_time", config.earliest_time or "1970-01-01")
    latest = int(datetime.datetime.now(datetime.UTC).timestamp())
    if config.latest_time:
        latest = _parse_setting("latest_time", config.latest_time)
    if earliest >= latest:
        raise UserError(
            f"config.prepare.cleaning.earliest_time={config.earliest_time!r} is not before "
            f"latest_time={config.latest_time or 'now'!r}"
        )
    return earliest, latest


def as_text(seconds: int) -> str:
    """Returns seconds since 1970 as a readable UTC date-time.

    Example:
        >>> as_text(1318896000)
        '2011-10-18 00:00:00'
    """
    origin = datetime.datetime(1970, 1, 1)
    return str(origin + datetime.timedelta(seconds=seconds))


def _guess_number(samples: Sequence[Any], numbers: list[float]) -> TimeFormat:
    middle = numbers[len(numbers) // 2]
    low, high = _SECONDS_RANGE
    for unit, scale in _PER_SECOND.items():
        if low * scale <= middle < high * scale:
            pattern = _guess_pattern([str(sample) for sample in samples]) if scale > 1 else None
            return (
                pattern if pattern and pattern.pattern.startswith("%Y%m%d%H") else TimeFormat(unit)
            )
    if 19700101 <= middle <= 22000101:
        dates = _guess_pattern([str(sample) for sample in samples])
        if dates:
            return dates
    return TimeFormat("order")


def _guess_pattern(samples: list[str]) -> TimeFormat | None:
    texts = samples[:500]
    counts = {pattern: sum(_fits(text, pattern) for text in texts) for pattern in ("", *PATTERNS)}
    best = max(counts, key=lambda pattern: counts[pattern])  # ties: the first in the list
    return TimeFormat("text", best) if texts and 2 * counts[best] > len(texts) else None


def _fits(text: str, pattern: str) -> bool:
    try:
        if pattern:
            datetime.datetime.strptime(text.strip(), pattern)
        else:
            datetime.datetime.fromisoformat(text.strip().removesuffix(" UTC"))
            return not text.strip().isdigit()
    except ValueError:
        return False
    return True


@ibis.udf.scalar.builtin(name="try_strptime")
def _try_strptime(text: str, pattern: str) -> datetime.datetime:
    """DuckDB's own: null instead of an error."""
    raise NotImplementedError


@ibis.udf.scalar.builtin(name="epoch_us", signature=((dt.timestamp,), dt.int64))
def _epoch_us(moment):  # type: ignore[no-untyped-def]  # the signature above says it
    """DuckDB's own: microseconds since 1970."""


@ibis.udf.scalar.builtin(name="isfinite")
def _is_finite(number: float) -> bool:
    """DuckDB's own."""
    raise NotImplementedError


def _epoch_of_text(text: ir.StringColumn, pattern: str) -> ir.IntegerColumn:
    if pattern:
        return _whole_seconds(_try_strptime(text.strip(), pattern))
    return _whole_seconds(text.strip().try_cast("timestamp('UTC')"))


def _whole_seconds(moment: ir.TimestampValue) -> ir.IntegerColumn:
    return (_epoch_us(moment) // 10**6).cast("int64")


def _to_number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _parse_setting(key: str, text: str) -> int:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(
            f"config.prepare.cleaning.{key}={text!r} is no date; write it like '1995-01-01'"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return int(moment.timestamp())
