"""The page: complete, self-contained, escaped, and whole with the least of material."""

import html.parser
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recjax.evaluation import StatisticsConfig, assemble_results, ranked_task
from recjax.reporting import ReportContext, build_report, render_report


@pytest.fixture(scope="module")
def page(demo_results: dict[str, Any], demo_context: ReportContext) -> str:
    return render_report(demo_results, demo_context)


class _Outline(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.scripts = 0
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "action", "data", "poster"):
                self.addresses.append(value or "")


def _outline(page: str) -> _Outline:
    outline = _Outline()
    outline.feed(page)
    return outline


def test_page_has_every_section_and_figure(page: str) -> None:
    ids = set(_outline(page).ids)
    assert ids >= {
        "done", "task-next_item", "task-click", "more-data", "users", "expansion", "states",
        "curves", "data", "cost", "limits",
    }  # fmt: skip
    assert page.count("<svg") == 13
    assert page.count("</svg>") == 13


def test_page_says_where_the_time_of_steps_went(page: str) -> None:
    rows = re.findall(r"<tr><td>pretrain real</td>(.*?)</tr>", page)
    cells = ["42.1 ms", "1.3 %", "0.4 %", "5.0 %", "9,120", "81,234", "41 %"]
    assert re.findall(r"<td>(.*?)</td>", rows[0]) == cells
    assert "<tr><td>finetune next_item/real</td>" in page  # without utilisation: a CPU
    assert "finetune click/real" not in page  # a training of one step has no figures


def test_page_needs_no_network(page: str) -> None:
    outline = _outline(page)
    assert outline.scripts == 0
    assert outline.addresses and all(address.startswith("#") for address in outline.addresses)
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_protocol_names_only_what_was_used(page: str) -> None:
    assert "half rank" in page and "fusion weights:" not in page


def test_anchors_lead_somewhere(page: str) -> None:
    outline = _outline(page)
    links = {address[1:] for address in outline.addresses}
    assert links <= set(outline.ids)


def test_page_escapes_what_users_and_catalogues_say(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script src=&#34;https://evil.example/x.js&#34;&gt;" in page
    assert "不锈钢锅" in page and "厨房用品" in page
    assert "mathdefault" not in page  # dollar signs are no formulas


def test_figures_take_the_colours_of_the_page(page: str) -> None:
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert not re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", svg)
        assert "<style" not in svg and "font-family" not in svg and "xmlns" not in svg
        assert 'aria-label="' in svg


def test_same_input_same_page(page: str, demo_results: dict, demo_context: ReportContext) -> None:
    assert render_report(demo_results, demo_context) == page


def test_hit_is_marked_and_small_slices_are_named(page: str) -> None:
    assert '<li class="hit">Linen apron</li>' in page
    assert "Too few targets to judge" in page and "target never seen in training" in page


def test_minimal_context_still_makes_a_page(tmp_path: Path) -> None:
    config = StatisticsConfig((10,), 50, 10)
    task = ranked_task({"floor": [1.0] * 20, "real": [2.0] * 20}, {}, {}, config)
    results = assemble_results({"next_item": task}, {}, "", {}, {})
    path = tmp_path / "report.html"
    build_report(results, ReportContext("bare <b>"), path)
    page = path.read_text(encoding="utf-8")
    assert "bare &lt;b&gt;" in page and results["verdict"].split("(")[0] in page
    ids = set(_outline(page).ids)
    assert {"done", "task-next_item", "limits"} <= ids
    assert not ids & {"users", "expansion", "states", "curves", "data", "cost", "more-data"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_no_task_still_makes_a_page() -> None:
    results = assemble_results({}, {}, "", {}, {})
    assert "Nothing was evaluated" in render_report(results, ReportContext("empty"))


def test_empty_materials_leave_their_sections_out(demo_results: dict) -> None:
    context = ReportContext(
        "x", profile={}, report_cards={"expanded": {}}, curves=[], data_curve={"rows": []},
        example_users=[], state_cards=[],
    )  # fmt: skip
    ids = set(_outline(render_report(demo_results, context)).ids)
    assert not ids & {"users", "states", "curves", "data", "more-data"}


def test_reporting_imports_no_jax() -> None:
    code = (
        "import sys, recjax.reporting as room; room.render_report; "
        "assert not {'jax', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
