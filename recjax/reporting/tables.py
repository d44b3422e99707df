"""Tables of results: one description for the terminal and for the page.

Lives here: which numbers stand in a table and how they are written. Not here: the page (`html`) and
figures (`plots`). `print_results` is called at the end of a run.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from recjax.evaluation import arms, verdicts

_SHORT = ("ndcg_at_10", "hr_at_10", "mrr_at_10", "auc", "log_loss", "ece")  # for the terminal
_HIDDEN = ("precision_", "recall_")  # of one target: HR / k and HR
_JUDGED = (
    *("ndcg", "hr", "mrr", "auc", "gauc", "pr_auc", "log_loss", "normalised_entropy"),
    *("ece", "lift_top"),
)  # a column of these has a best
LOWER_IS_BETTER = ("log_loss", "ece", "normalised_entropy", "gini", "popularity_bias")


@dataclasses.dataclass(frozen=True)
class Cell:
    """A number as text, its interval or spread as small text, and whether it is the best."""

    text: str
    small: str = ""
    best: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """One line: a name, the cells, and what kind of line it is ("floor", "model", "ceiling")."""

    name: str
    cells: list[Cell]
    kind: str


@dataclasses.dataclass(frozen=True)
class Table:
    """Headers (without that of the name column) and rows."""

    headers: list[str]
    rows: list[Row]


def metric_table(
    name: str, task: Mapping[str, Any], short: bool = False, main: bool = False
) -> Table:
    """Makes the table of arms and metrics; the best model of a column is marked.

    Args:
        name: the task.
        task: its part of results.json.
        short: only the few metrics that fit a terminal.
        main: one cutoff only, 10 where it is there.
    """
    found = {m for arm in task["arms"].values() for m in arm["metrics"]}
    metrics = sorted(found, key=_metric_place)
    metrics = [m for m in metrics if not m.startswith(_HIDDEN)]
    if short:
        metrics = [m for m in _SHORT if m in metrics] or metrics[:3]
    elif main:
        cutoffs = [m.split("_at_")[1] for m in metrics if "_at_" in m]
        kept = "10" if "10" in cutoffs else next(iter(cutoffs), "")
        metrics = [m for m in metrics if "_at_" not in m or m.endswith(f"_at_{kept}")]
    order = sorted(arms.ordered(task["arms"]), key=lambda arm: _KINDS.index(kind_of(arm)))
    best = {m: _best(task, m) for m in metrics}
    rows = []
    for arm in order:
        values = task["arms"][arm]["metrics"]
        cells = [_cell(values[m], best[m] == arm) if m in values else Cell("–") for m in metrics]
        rows.append(Row(arms.title(arm, name), cells, kind_of(arm)))
    return Table([verdicts.metric_title(m) for m in metrics], rows)


def lift_table(name: str, task: Mapping[str, Any], metric: str) -> Table:
    """Makes the table of comparisons of one metric: absolute, relative, interval, p-values."""
    rows = []
    for pair in verdicts.ordered_pairs(task):
        by_metric = task["lift"][pair]
        if metric not in by_metric:
            continue
        lift = by_metric[metric]
        treated, control = pair.split(" vs ")
        low, high = lift["ci95"]
        relative = "–" if lift["relative"] is None else verdicts.percent(lift["relative"])
        bounds = lift.get("relative_ci95")
        interval = f"{100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f} %" if bounds else "–"
        cells = [
            Cell(relative, best=low > 0),
            Cell(interval),
            Cell(f"{lift['absolute']:+.4f}"),
            Cell(p_text(lift["p_value"])),
            Cell(p_text(lift["p_holm"])),
            Cell(str(lift["seeds"])),
            Cell(f"{lift['n']:,}"),
        ]
        label = f"{arms.title(treated, name)} against {arms.title(control, name)}"
        rows.append(Row(label, cells, "model"))
    return Table(["change", "95 % interval", "absolute", "p", "p (Holm)", "seeds", "n"], rows)


def print_results(results: Mapping[str, Any], console: Console) -> None:
    """Prints arms, lifts and the verdict.

    Args:
        results: content of results.json.
        console: where to; user text is never read as markup.
    """
    for name, task in verdicts.ordered_tasks(results):
        metric = verdicts.primary_metric(task)
        if metric is None:
            continue
        console.print(_rich(metric_table(name, task, short=True), name.replace("_", " ")))
        lifts = lift_table(name, task, metric)
        if lifts.rows:
            title = f"what changed in {verdicts.metric_title(metric)}"
            console.print(_rich(lifts, title, columns=(0, 1, 4)))
    console.print(results["verdict"], style="bold", markup=False, highlight=False)


def kind_of(arm: str) -> str:
    """Returns "floor", "ceiling" or "model"."""
    if arm in arms.FLOORS:
        return "floor"
    return "ceiling" if arm in arms.CEILINGS else "model"


def number(value: float | None) -> str:
    """Writes a metric with as many digits as it can bear.

    Example:
        >>> number(0.05161), number(12.345), number(None)
        ('0.0516', '12.35', '–')
    """
    if value is None:
        return "–"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:,.2f}"


def p_text(p_value: float) -> str:
    """Writes a p-value.

    Example:
        >>> p_text(0.0001), p_text(0.034)
        ('< .001', '.034')
    """
    if p_value < 0.001:
        return "< .001"
    return f"{p_value:.3f}".removeprefix("0")


_KINDS = ("floor", "model", "ceiling")


def _metric_place(metric: str) -> tuple[int, int, str]:
    """Returns a sort key: NDCG, HR, MRR, click metrics, then what lists look like; by cutoff."""
    families = (*_JUDGED, "coverage")
    family = [place for place, name in enumerate(families) if metric.startswith(name)]
    cutoff = metric.split("_at_")[-1]
    return family[0] if family else len(families), int(cutoff) if cutoff.isdigit() else 0, metric


def _best(task: Mapping[str, Any], metric: str) -> str | None:
    """Returns the arm with the best mean; ceilings do not compete, neutral metrics have none."""
    means = {
        arm: summary["metrics"][metric]["mean"]
        for arm, summary in task["arms"].items()
        if metric in summary["metrics"] and kind_of(arm) != "ceiling"
    }
    if len(means) < 2 or not metric.startswith(_JUDGED):
        return None
    chosen = min if metric.startswith(LOWER_IS_BETTER) else max
    return chosen(means, key=lambda arm: means[arm])


def _cell(metric: Mapping[str, Any], best: bool) -> Cell:
    small = ""
    if metric.get("ci95"):
        small = f"{number(metric['ci95'][0])} – {number(metric['ci95'][1])}"
    elif metric.get("sd") is not None:
        small = f"± {number(metric['sd'])}"
    return Cell(number(metric["mean"]), small, best)


def _rich(table: Table, title: str, columns: tuple[int, ...] | None = None) -> RichTable:
    shown = range(len(table.headers)) if columns is None else columns
    found = RichTable(title=title, title_justify="left", title_style="bold")
    found.add_column("")
    for place in shown:
        found.add_column(table.headers[place], justify="right")
    kind = ""
    for row in table.rows:
        if kind and row.kind != kind:
            found.add_section()
        kind = row.kind
        cells = [row.cells[place] for place in shown]
        texts = [
            (f"[bold]{cell.text}[/bold]" if cell.best else cell.text)
            + (f"  [dim]{cell.small}[/dim]" if cell.small and not place else "")
            for place, cell in enumerate(cells)
        ]
        found.add_row(row.name.replace("[", r"\["), *texts)
    return found
