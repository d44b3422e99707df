import ibis
import pytest

from recjax.data.times import TimeFormat, as_text, clock_range, epoch_seconds, guess_time_format
from recjax.errors import UserError


@pytest.mark.parametrize(
    ("samples", "kind", "unit", "pattern"),
    [
        ([1318896000, 1318896001], "int64", "seconds", ""),
        ([1318896000123], "int64", "milliseconds", ""),
        (["1318896000123456"], "string", "microseconds", ""),
        ([1318896000123456789], "int64", "nanoseconds", ""),
        ([1318896000.5], "float64", "seconds", ""),
        ([0, 1, 2, 3], "int64", "order", ""),
        (["2019-11-24 00:03:13.44+09:00"], "string", "text", ""),
        (["2017-11-24T16:00:00.000Z"], "string", "text", ""),
        (["12/31/2010 8:26"], "string", "text", "%m/%d/%Y %H:%M"),
        (["31/12/2010 8:26", "1/2/2010 8:26"], "string", "text", "%d/%m/%Y %H:%M"),
        (["20200131", "20191201"], "string", "text", "%Y%m%d"),
        ([20200131], "int64", "text", "%Y%m%d"),
        (["09 13, 2009"], "string", "text", "%m %d, %Y"),
        ([], "timestamp(6)", "native", ""),
    ],
)
def test_guess_of_unit(samples, kind, unit, pattern) -> None:
    assert guess_time_format(samples, kind) == TimeFormat(unit, pattern)


def test_guess_is_none_for_words_and_survives_a_few_of_them() -> None:
    assert guess_time_format(["soon", "later", "1318896000"], "string") is None
    assert guess_time_format(["1318896000", "1318896001", "later"], "string").unit == "seconds"


def test_given_unit_is_taken_at_its_word() -> None:
    assert guess_time_format([1318896000], "int64", "order").unit == "order"
    assert guess_time_format([12], "int64", "seconds").unit == "seconds"


@pytest.mark.parametrize(
    ("sql", "kind", "how", "expected"),
    [
        ("'2019-11-24 00:03:13.9+09:00'", "string", TimeFormat("text"), 1574521393),
        ("'2020-01-02'", "string", TimeFormat("text"), 1577923200),
        ("'yesterday'", "string", TimeFormat("text"), None),
        ("'31/1/2010 8:26'", "string", TimeFormat("text", "%d/%m/%Y %H:%M"), 1264926360),
        ("'32/1/2010 8:26'", "string", TimeFormat("text", "%d/%m/%Y %H:%M"), None),
        ("'1318896000.7'", "string", TimeFormat("seconds"), 1318896000),
        ("'inf'", "string", TimeFormat("seconds"), None),
        ("'nan'::DOUBLE", "float64", TimeFormat("seconds"), None),
        ("1318896000999::BIGINT", "int64", TimeFormat("milliseconds"), 1318896000),
        ("DATE '2020-01-01'", "date", TimeFormat("native"), 1577836800),
        ("TIMESTAMP '2020-01-01 00:00:01.9'", "timestamp(6)", TimeFormat("native"), 1577836801),
    ],
)
def test_epoch_seconds_of_value(engine, sql, kind, how, expected) -> None:
    table = engine.query(f"SELECT {sql} AS value", {"value": kind})
    assert engine.rows(table.select(s=epoch_seconds(table.value, how))) == [{"s": expected}]
    assert epoch_seconds(ibis.literal(5), TimeFormat("seconds")).type().is_int64()


def test_clock_range_of_settings(make_settings) -> None:
    changes = {"prepare.cleaning.earliest_time": "1970-01-02"}
    changes |= {"prepare.cleaning.latest_time": "1970-01-03 00:00:01"}
    assert clock_range(make_settings("", changes).cleaning) == (86400, 172801)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("earliest_time", "long ago", "earliest_time='long ago'"),
        ("latest_time", "1980-01-01", "earliest_time='1995-01-01' is not before"),
    ],
)
def test_clock_range_that_makes_no_sense(make_settings, key, value, words) -> None:
    cleaning = make_settings("", {f"prepare.cleaning.{key}": value}).cleaning
    with pytest.raises(UserError, match=words):
        clock_range(cleaning)


def test_as_text_before_1970() -> None:
    assert as_text(-1) == "1969-12-31 23:59:59"
