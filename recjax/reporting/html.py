"""Writes report.html: one file, no network, readable on a phone, on paper, in light and in dark.

Called by the report stage. The template and the style sheet lie beside this file; all text of users
and catalogues is escaped by the template engine.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from recjax.reporting import plots, sections
from recjax.reporting.context import ReportContext


def build_report(results: Mapping[str, Any], context: ReportContext, path: Path) -> None:
    """Writes the report; the file appears whole or not at all.

    Args:
        results: content of results.json.
        context: material beside it; sections without material are left out.
        path: of the HTML file.
    """
    page = render_report(results, context)
    beside = path.with_suffix(".partial")
    beside.write_text(page, encoding="utf-8")
    os.replace(beside, path)


def render_report(results: Mapping[str, Any], context: ReportContext) -> str:
    """Returns the page as a string; see `build_report`."""
    environment = Environment(
        loader=PackageLoader("recjax.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html").render(
        context=context,
        results=results,
        tone=sections.tone_of(results["verdict"]),
        tiles=sections.headline_tiles(results),
        flow=sections.flow(results),
        data_rows=sections.data_rows(context.profile) if context.profile else [],
        part_rows=sections.part_rows(context.profile) if context.profile else [],
        removed_rows=sections.removed_rows(context.profile) if context.profile else [],
        expansion=sections.expansion_cards(context),
        states=sections.state_blocks(context.state_cards or []),
        curves=plots.plot_curves(context.curves or []),
        tasks=sections.task_blocks(results),
        data_curve=plots.plot_data_curve(context.data_curve) if context.data_curve else "",
        users=sections.user_cards(context.example_users or []),
        cost=plots.plot_cost(results["cost"]),
        training_costs=sections.training_costs(results["cost"]),
        limits=sections.limits(results, context),
        config_rows=sections.config_rows(context.config or {}),
        environment_rows=sections.config_rows(context.environment or {}),
    )
