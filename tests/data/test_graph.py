import pytest

from recjax.data.graph import read_graph
from recjax.data.quarantine import Quarantine
from recjax.errors import UserError


def read(engine, settings):
    quarantine = Quarantine(engine, 0.5)
    return read_graph(engine, settings.graph, quarantine), dict(quarantine.counts)


def test_facts_are_distinct_and_sorted(engine, make_settings, write_lines) -> None:
    assert read(engine, make_settings()) == (None, {})
    lines = ["h\tr\tt", "b\tis\tc", "a\tis\tc", "b\tis\tc", "a\t\tc"]
    changes = {"data.graph_path": str(write_lines("g.tsv", lines))}
    changes |= {f"data.graph_columns.{name}": name[0] for name in ("head", "relation", "tail")}
    facts, bad = read(engine, make_settings("", changes))
    assert [tuple(row.values()) for row in facts.to_pylist()] == [
        ("a", "is", "c"),
        ("b", "is", "c"),
    ]
    assert bad == {"relation is missing": 1}


def test_every_end_is_needed(engine, make_settings, write_lines) -> None:
    path = str(write_lines("g.csv", ["head,relation,tail", "a,b,c"]))
    changes = {"data.graph_path": path, "data.graph_columns.tail": ""}
    with pytest.raises(UserError, match="config.data.graph_columns.tail is ''"):
        read(engine, make_settings("", changes))
    with pytest.raises(UserError, match="no column 'end'"):
        read(engine, make_settings("", changes | {"data.graph_columns.tail": "end"}))
