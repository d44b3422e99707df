"""report: gathers what the other stages left in the work directory into one page."""

import time
from pathlib import Path
from typing import Any

from recjax.context import Context
from recjax.logs import read_metrics
from recjax.reporting.context import ReportContext
from recjax.reporting.html import build_report
from recjax.stages.evaluate import stage_costs
from recjax.workdir import Workdir, read_json


def run(context: Context) -> dict[str, Any]:
    """Writes report.html."""
    workdir = context.workdir
    results = read_json(workdir / "results.json")
    results["cost"] = stage_costs(context)
    run_facts = read_json(workdir / "config.json")
    material = ReportContext(
        title=context.config.name,
        command="python -m recjax.main " + " ".join(run_facts["command"][1:]),
        created=time.strftime("%Y-%m-%d %H:%M"),
        config=run_facts["config"],
        environment={
            **run_facts["versions"],
            "git": run_facts["git"],
            "devices": ", ".join(run_facts["devices"]),
            "platform": run_facts["platform"],
        },
        profile=_read(workdir / "prepared" / "profile.json"),
        report_cards=_read(workdir / "expansion" / "report_card.json"),
        curves=_curves(workdir),
        data_curve=_read(workdir / "evaluation" / "data_curve.json"),
        example_users=_read(workdir / "evaluation" / "example_users.json"),
        state_cards=_read(workdir / "expansion" / "state_cards.json"),
    )
    build_report(results, material, workdir / "report.html")
    return {"bytes": (workdir / "report.html").stat().st_size}


def _read(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _curves(workdir: Workdir) -> list[dict[str, Any]]:
    """Returns the rows of every metrics.jsonl, marked with their stage and arm."""
    rows = []
    for path in sorted(workdir.root.glob("pretrain/*/metrics.jsonl")):
        rows += [
            {"stage": "pretrain", "arm": path.parent.name, **row} for row in read_metrics(path)
        ]
    for path in sorted(workdir.root.glob("finetune/*/*/metrics.jsonl")):
        stage = f"finetune {path.parent.parent.name}"
        rows += [{"stage": stage, "arm": path.parent.name, **row} for row in read_metrics(path)]
    return rows
