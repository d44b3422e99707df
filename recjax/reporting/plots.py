"""What the figures of a report show: results, slices, lifts, curves, calibration, cost.

Each function takes plain dicts of results.json or of the work directory and returns an SVG string,
or "" when there is nothing to draw. Not here: colours and SVG (`figures`), real against synthetic
(`expansion_plots`), the page (`html`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from recjax.evaluation import arms, slices, verdicts
from recjax.reporting.figures import INK, LINE, MUTED, arm_colour, bare, render, series

_LEGEND_COLUMNS = 5
_WIDTH = 8.6  # inches of a figure over the whole column
_STAGES = (
    "check", "prepare", "features", "tune", "expand", "pretrain", "finetune", "evaluate",
    "recommend", "report",
)  # fmt: skip
_MAX_CURVES = 6  # panels of learning curves


def plot_arms(name: str, task: Mapping[str, Any], metric: str) -> str:
    """Draws every arm's mean with its interval, best on top, and its seeds as points."""
    summaries = {arm: task["arms"][arm]["metrics"] for arm in arms.ordered(task["arms"])}
    found = {arm: metrics[metric] for arm, metrics in summaries.items() if metric in metrics}
    if not found:
        return ""
    order = sorted(found, key=lambda arm: found[arm]["mean"])

    def draw(axes: Axes) -> None:
        for place, arm in enumerate(order):
            value, colour = found[arm], arm_colour(arm, list(task["arms"]))
            axes.barh(place, value["mean"], height=0.56, color=colour, alpha=0.28)
            if value.get("ci95"):
                axes.plot(value["ci95"], [place, place], color=colour, linewidth=2.6)
            if len(value["per_seed"]) > 1:
                seeds = value["per_seed"]
                axes.scatter(seeds, [place] * len(seeds), s=9, color=INK, alpha=0.55, zorder=3)
            axes.scatter([value["mean"]], [place], s=46, color=colour, zorder=4)
            right = max([value["mean"], *(value.get("ci95") or []), *value["per_seed"]])
            axes.annotate(
                f"{value['mean']:.4f}", (right, place), (9, 0), textcoords="offset points",
                va="center", weight="bold",
            )  # fmt: skip
        axes.set_yticks(range(len(order)), [arms.title(arm, name) for arm in order])
        axes.tick_params(axis="y", labelsize=10, labelcolor=INK)
        axes.set_xlabel(f"{verdicts.metric_title(metric)}, 95 % interval; small dots are seeds")
        axes.margins(x=0.12)
        if metric == "auc":
            axes.set_xlim(left=min(0.5, min(v["mean"] for v in found.values())))
        bare(axes, "x")

    size = (_WIDTH, 0.9 + 0.42 * len(order))
    return render(f"arms_{name}", size, draw, alt=f"{metric} of every arm with intervals")


def plot_lifts(name: str, task: Mapping[str, Any], metric: str) -> str:
    """Draws a forest of relative lifts: comparisons first, then the slices of the main one."""
    rows = _lift_rows(name, task, metric)
    if not rows:
        return ""
    weak = sum(not strong for _, _, strong in rows)
    # from the top down, slices half a line apart from the comparisons
    places = [weak + 0.5 * (weak > 0) + p for p in range(len(rows) - weak)][::-1]
    places += [float(p) for p in range(weak)][::-1]

    def draw(axes: Axes) -> None:
        for place, (_, lift, strong) in zip(places, rows, strict=True):
            low, high = lift["relative_ci95"]
            sure = 2 if low > 0 else 3 if high < 0 else 7
            colour = series(sure)
            axes.plot([low, high], [place, place], color=colour, linewidth=3 if strong else 2)
            size = 64 if strong else 34
            axes.scatter([lift["relative"]], [place], s=size, color=colour, zorder=3, marker="D")
            text = f"{verdicts.percent(lift['relative'])}"
            axes.annotate(
                text, (1.01, place), xycoords=("axes fraction", "data"), va="center", size=9
            )
        axes.axvline(0, color=MUTED, linewidth=1.2)
        axes.set_yticks(places, [label for label, _, _ in rows])
        axes.tick_params(axis="y", labelsize=9.5, labelcolor=INK)
        axes.xaxis.set_major_formatter(FuncFormatter(_signed_percent))
        axes.set_xlabel(f"relative change of {verdicts.metric_title(metric)}, 95 % interval")
        bare(axes, "x")

    alt = "relative lifts with intervals, by comparison and slice"
    return render(f"lift_{name}", (_WIDTH, 0.9 + 0.34 * places[0]), draw, alt=alt)


def plot_slices(name: str, task: Mapping[str, Any], metric: str) -> str:
    """Draws each slice's mean for the arms that matter, slices with enough targets only."""
    wanted = ("floor", arms.REAL, *arms.treatments(task["arms"]))
    shown = [arm for arm in wanted if arm in task["arms"]]
    if not shown:
        return ""
    parts_of = task["arms"][shown[0]]["slices"]
    names = [part for part in slices.ordered(parts_of) if not parts_of[part].get("too_few")]
    if not names:
        return ""

    def draw(axes: Axes) -> None:
        places = np.arange(len(names))[::-1]
        for arm in shown:
            parts = task["arms"][arm]["slices"]
            means = [parts[s]["metrics"][metric]["mean"] for s in names]
            colour = arm_colour(arm, list(task["arms"]))
            label = arms.title(arm, name)
            axes.scatter(means, places, s=58, color=colour, label=label, zorder=3)
        lows, highs = _ranges(task, shown, names, metric)
        axes.hlines(places, lows, highs, color=LINE, linewidth=4, zorder=1)
        axes.set_yticks(places, [slices.TITLES.get(s, s.replace("_", " ")) for s in names])
        axes.tick_params(axis="y", labelsize=9.5, labelcolor=INK)
        axes.set_xlabel(verdicts.metric_title(metric))
        axes.set_xlim(left=None if metric == "auc" else 0)
        columns = min(len(shown), _LEGEND_COLUMNS)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, handletextpad=0.2)
        bare(axes, "x")

    lines = -(-len(shown) // _LEGEND_COLUMNS)
    size = (_WIDTH, 0.95 + 0.25 * lines + 0.34 * len(names))
    return render(f"slices_{name}", size, draw, alt=f"{metric} by slice and arm")


def plot_curves(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draws validation metrics and losses over steps: thin lines are seeds, thick ones means.

    Args:
        rows: {"stage", "arm", "seed", "step", name: value} of all metrics.jsonl files; names that
            start with "eval/" and the loss are drawn.
    """
    panels = _curve_panels(rows)
    if not panels:
        return ""
    names = list(panels)[:_MAX_CURVES]
    every_arm = arms.ordered({arm for panel in panels.values() for arm, _ in panel})

    def draw(*axes: Axes) -> None:
        for ax, name in zip(axes, names, strict=False):
            for arm in arms.ordered({arm for arm, _ in panels[name]}):
                _draw_curve(ax, panels[name], arm, arm_colour(arm, every_arm))
            ax.set_title(name)
            ax.xaxis.set_major_locator(MaxNLocator(4))
            bare(ax)
        for ax in axes[len(names) :]:
            ax.set_visible(False)
        if len(every_arm) > 1:
            axes[0].legend()

    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    return render(
        "curves", (_WIDTH, 2.5 * lines), draw, alt="learning curves", columns=columns, rows=lines
    )


def plot_data_curve(curve: Mapping[str, Any]) -> str:
    """Draws quality over the share of users: would more data help?

    Args:
        curve: {"model", "metric", "rows": [{"share", "users", METRIC: value}]}; METRIC may also be
            in "arm" rows, one line per arm.
    """
    rows, metric = curve.get("rows") or [], curve.get("metric", "ndcg_at_10")
    if len(rows) < 2:
        return ""
    names = list(dict.fromkeys(row.get("arm", curve.get("model", "")) for row in rows))

    def draw(axes: Axes) -> None:
        for place, name in enumerate(names):
            own = [row for row in rows if row.get("arm", curve.get("model", "")) == name]
            users = [row["users"] for row in own]
            values = [row[metric] for row in own]
            colour = series(0 if len(names) == 1 else place)
            axes.plot(users, values, "o-", color=colour, label=name, markersize=7)
            for x, y, row in zip(users, values, own, strict=True):
                axes.annotate(
                    f"{y:.4f}\n{row['share']:.0%}", (x, y), (0, 10), textcoords="offset points",
                    ha="center", size=9,
                )  # fmt: skip
        axes.set_xlabel("training users")
        axes.set_ylabel(verdicts.metric_title(metric))
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axes.margins(y=0.35)
        axes.legend(loc="lower right")
        bare(axes)

    return render("data_curve", (_WIDTH, 2.9), draw, alt="quality over number of training users")


def plot_calibration(bins: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Draws observed over predicted click rates, one line per arm."""
    bins = {arm: rows for arm, rows in bins.items() if rows}
    if not bins:
        return ""
    top = max(max(b["predicted"], b["observed"]) for rows in bins.values() for b in rows)

    def draw(axes: Axes) -> None:
        axes.plot([0, top], [0, top], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for arm in arms.ordered(bins):
            rows = bins[arm]
            x, y = [b["predicted"] for b in rows], [b["observed"] for b in rows]
            colour, label = arm_colour(arm, list(bins)), arms.title(arm, "click")
            axes.plot(x, y, "o-", color=colour, label=label, markersize=5)
        axes.set_xlabel("predicted click rate")
        axes.set_ylabel("observed")
        axes.legend(loc="upper left")
        bare(axes)

    return render("calibration", (5.2, 3.6), draw, alt="observed over predicted click rates")


def plot_cost(cost: Mapping[str, Mapping[str, Any]]) -> str:
    """Draws wall time per stage."""
    cost = {stage: facts for stage, facts in cost.items() if facts.get("wall_seconds")}
    if not cost:
        return ""
    stages = in_order(cost)[::-1]

    def draw(axes: Axes) -> None:
        seconds = [cost[stage]["wall_seconds"] for stage in stages]
        axes.barh(stages, seconds, height=0.56, color=series(0), alpha=0.75)
        for place, value in enumerate(seconds):
            text = f"{value:,.1f} s" if value < 100 else f"{value / 60:,.1f} min"
            axes.annotate(text, (value, place), (6, 0), textcoords="offset points", va="center")
        axes.tick_params(axis="y", labelsize=10, labelcolor=INK)
        axes.set_xlabel("wall seconds")
        axes.margins(x=0.12)
        bare(axes, "x")

    return render("cost", (_WIDTH, 0.8 + 0.32 * len(stages)), draw, alt="seconds per stage")


def in_order(stages: Iterable[str]) -> list[str]:
    """Sorts stages as they run; unknown ones come last."""
    known = {stage: place for place, stage in enumerate(_STAGES)}
    return sorted(stages, key=lambda stage: known.get(stage, len(known)))


def _signed_percent(value: float, _: int | None = None) -> str:
    return f"{100 * value:+.0f} %" if abs(value) > 1e-9 else "0"


def _lift_rows(
    name: str, task: Mapping[str, Any], metric: str
) -> list[tuple[str, Mapping[str, Any], bool]]:
    """Returns (label, lift, strong) rows that have a relative interval."""
    rows = []
    for pair in verdicts.ordered_pairs(task):
        by_metric = task["lift"][pair]
        treated, control = pair.split(" vs ")
        label = f"{arms.title(treated, name)} against {arms.title(control, name)}"
        if by_metric.get(metric, {}).get("relative_ci95"):
            rows.append((label, by_metric[metric], True))
    headline = verdicts.headline_lift(task, metric)
    if headline:
        parts = headline[1].get("slices", {})
        for key in slices.ordered(parts):
            part = parts[key]
            if not part.get("too_few") and part.get("relative_ci95"):
                label = slices.TITLES.get(key, key.replace("_", " "))
                rows.append((f"{label}  (n = {part['n']:,})", part, False))
    return rows


def _ranges(
    task: Mapping[str, Any], shown: Sequence[str], names: Sequence[str], metric: str
) -> tuple[list[float], list[float]]:
    values = [
        [task["arms"][arm]["slices"][s]["metrics"][metric]["mean"] for arm in shown] for s in names
    ]
    return [min(row) for row in values], [max(row) for row in values]


def _curve_panels(
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, dict[tuple[str, int], list[tuple[int, float]]]]:
    """Returns panel -> (arm, seed) -> (step, value); validation metrics before losses."""
    panels: dict[str, dict[tuple[str, int], list[tuple[int, float]]]] = {}
    for row in rows:
        for name, value in row.items():
            drawn = name.startswith("eval/") or name in ("loss", "train/loss")
            if not drawn or value is None:
                continue
            short = verdicts.metric_title(name.removeprefix("eval/").split("/")[-1])
            short = "loss" if name.endswith("loss") and "eval" not in name else short
            panel = f"{row['stage'].replace('_', ' ')}: {short}"
            points = panels.setdefault(panel, {})
            points.setdefault((row["arm"], row["seed"]), []).append((row["step"], value))
    return dict(sorted(panels.items(), key=lambda item: item[0].endswith(": loss")))


def _draw_curve(
    axes: Axes, panel: Mapping[tuple[str, int], list[tuple[int, float]]], arm: str, colour: str
) -> None:
    of_arm = [sorted(points) for (name, _), points in panel.items() if name == arm]
    by_step: dict[int, list[float]] = {}
    for points in of_arm:
        for step, value in points:
            by_step.setdefault(step, []).append(value)
        if len(of_arm) > 1:
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=0.8, alpha=0.4)
    mean = [(step, float(np.mean(values))) for step, values in sorted(by_step.items())]
    axes.plot(*zip(*mean, strict=True), color=colour, label=arms.title(arm))
