import ibis
import pytest

from recjax.data import readers


@pytest.mark.parametrize(
    ("sql", "kind", "expected"),
    [
        ("17850.0::DOUBLE", "float64", "17850"),
        ("1.5::DOUBLE", "float64", "1.5"),
        ("'nan'::DOUBLE", "float64", None),
        ("9007199254740993::BIGINT", "int64", "9007199254740993"),
        ("'  a b '", "string", "a b"),
        ("'  '", "string", None),
    ],
)
def test_ids_become_text(engine, sql, kind, expected) -> None:
    table = engine.query(f"SELECT {sql} AS id", {"id": kind})
    assert engine.rows(table.select(id=readers.as_id(table.id))) == [{"id": expected}]


@pytest.mark.parametrize(
    ("sql", "kind", "target", "number", "is_wrong"),
    [
        ("'4.5'", "string", "float32", 4.5, False),
        ("' 4 '", "string", "int8", 4, False),
        ("''", "string", "float32", None, False),
        ("'many'", "string", "float32", None, True),
        ("'300'", "string", "int8", None, True),
        ("NULL::DOUBLE", "float64", "float32", None, False),
        ("2.0::DOUBLE", "float64", "int32", 2, False),
    ],
)
def test_numbers_and_what_is_none(engine, sql, kind, target, number, is_wrong) -> None:
    table = engine.query(f"SELECT {sql} AS x", {"x": kind})
    value, wrong = readers.as_number(table.x, target)
    assert engine.rows(table.select(value=value, wrong=wrong)) == [
        {"value": number, "wrong": is_wrong}
    ]


def test_first_reason_wins_and_good_rows_have_none(engine) -> None:
    table = engine.query("SELECT * FROM range(3) t(i)", {"i": "int64"})
    reason = readers.first_reason([(table.i > 1, "big"), (table.i > 0, "not zero")])
    rows = engine.rows(table.select("i", reason=reason).order_by("i"))
    assert [row["reason"] for row in rows] == [None, "not zero", "big"]
    nothing = readers.first_reason([])
    assert engine.rows(table.select(reason=nothing).limit(1)) == [{"reason": None}]
    assert isinstance(reason, ibis.expr.types.StringValue)


def test_sample_leaves_out_nulls_and_blanks(engine) -> None:
    table = engine.query("SELECT * FROM (VALUES ('a'), (NULL), (' '), ('b')) t(x)", {"x": "string"})
    assert readers.sample(engine, table, "x") == ["a", "b"]
