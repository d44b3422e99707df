"""check: looks at a stranger's log, says what it found, writes a config that is ready to run."""

from typing import Any

from recjax.context import Context
from recjax.data.check import check_log
from recjax.data.check_report import render_config, render_report
from recjax.data.settings import log_settings
from recjax.errors import UserError


def run(context: Context) -> dict[str, Any]:
    """Prints the report and writes NAME.py into the work directory; makes no other artefact."""
    config = context.config
    if not config.data.path:
        raise UserError("the check stage looks at a file: give --config.data.path=FILE")
    report = check_log(
        config.data.path,
        log_settings(config.data, config.prepare),
        context.workdir / ".check-scratch",
        embedding_dim=config.model.hidden_dim,
    )
    console = context.progress.console
    console.print(render_report(report), markup=False, highlight=False, soft_wrap=True)
    target = context.workdir / f"{config.name}.py"
    beside = target.with_suffix(".partial")
    beside.write_text(render_config(report))
    beside.replace(target)
    console.print(
        f"ready config: {target}\n"
        f"run it: python -m recjax.main --config {target} --workdir {context.workdir.root}",
        markup=False,
        soft_wrap=True,
    )
    return {}
