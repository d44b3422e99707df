"""The terminal's table says what results.json says."""

import io
from typing import Any

from rich.console import Console

from recjax.reporting import print_results, sections, tables


def _printed(results: dict[str, Any]) -> str:
    text = io.StringIO()
    print_results(results, Console(file=text, width=140))
    return text.getvalue()


def test_table_shows_arms_lift_and_verdict(demo_results: dict[str, Any]) -> None:
    text = _printed(demo_results)
    task = demo_results["tasks"]["next_item"]
    for arm in ("floor", "real", "expanded"):
        assert f"{task['arms'][arm]['metrics']['ndcg_at_10']['mean']:.4f}" in text
    lift = task["lift"]["expanded vs real"]["ndcg_at_10"]
    assert f"{100 * lift['relative']:+.1f} %" in text
    assert demo_results["verdict"] in text.replace("\n", " ")


def test_user_text_is_no_markup(demo_results: dict[str, Any]) -> None:
    results = {**demo_results, "verdict": "No gain [bold]: -1 % [-2.0, +0.1]"}
    task = demo_results["tasks"]["next_item"]
    arms = {"[red]arm": task["arms"]["real"]}
    results["tasks"] = {"next_item": {**task, "arms": arms, "lift": {}}}
    text = _printed(results)
    assert "[red]arm" in text and "[bold]" in text and "[-2.0, +0.1]" in text


def test_ceilings_and_neutral_metrics_never_win(demo_results: dict[str, Any]) -> None:
    table = tables.metric_table("next_item", demo_results["tasks"]["next_item"])
    assert [row.kind for row in table.rows] == sorted(
        (row.kind for row in table.rows), key=["floor", "model", "ceiling"].index
    )
    best = {row.name for row in table.rows if any(cell.best for cell in row.cells)}
    assert best == {"expanded"}
    bias = table.headers.index("popularity bias@10")
    assert not any(row.cells[bias].best for row in table.rows)


def test_lower_log_loss_wins() -> None:
    def arm(value: float) -> dict[str, Any]:
        return {"metrics": {"log_loss": {"mean": value, "sd": None, "per_seed": [value], "n": 9}}}

    table = tables.metric_table("click", {"arms": {"floor": arm(0.4), "real": arm(0.3)}})
    assert [row.cells[0].best for row in table.rows] == [False, True]
    assert table.rows[0].name == "pair floor"


def test_gate_counts_of_seeds_are_added() -> None:
    counts = {"drawn": 10, "kept": 7, "removed": {"too_short": 3}}
    summed = sections._sum_gate({"0": {"hmm_users": counts}, "1": {"hmm_users": counts}})
    assert summed == {"hmm_users": {"drawn": 20, "kept": 14, "removed": {"too_short": 6}}}


def test_config_rows_flatten_and_skip_what_is_not_given() -> None:
    rows = sections.config_rows({"a": {"b": (1, 2), "c": ""}, "d": False})
    assert rows == [("a.b", "1, 2"), ("d", "False")]
