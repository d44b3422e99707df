"""Reporting: the terminal's table and one self-contained HTML page. Never imports jax.

Everything arrives as plain dicts: results.json and a `ReportContext`.
"""

from recjax.reporting.context import ReportContext
from recjax.reporting.html import build_report, render_report
from recjax.reporting.tables import print_results

__all__ = ["ReportContext", "build_report", "print_results", "render_report"]
