"""Figures of the expansion section: the real log beside the synthetic one, and the gate's work.

Takes the dicts of expansion/report_card.json ("plots" and "gate"). Not here: how they are counted
(`recjax.expansion.report_card`), colours and SVG (`figures`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from recjax.reporting.figures import INK, bare, render, series

_SIDES = (("real", 0), ("synthetic", 1))
_MAX_CELLS = 12  # rows and columns of a transition table


def plot_shapes(plots: Mapping[str, Any], name: str) -> str:
    """Draws how lengths, actions, gaps, popularity and nearest users are distributed."""
    panels = [
        (title, plots[key], draw)
        for key, title, draw in (
            ("lengths", "events per user", _draw_lengths),
            ("actions", "actions", _draw_actions),
            ("gaps", "time between events", _draw_gaps),
            ("popularity", "item popularity", _draw_popularity),
            ("nearest", "likeness to the nearest (other) real user", _draw_nearest),
        )
        if plots.get(key) and np.sum(plots[key]["real"]) > 0
    ]
    if not panels:
        return ""

    def draw(*axes: Axes) -> None:
        for ax, (title, plot, draw_panel) in zip(axes, panels, strict=False):
            draw_panel(ax, plot)
            ax.set_title(title)
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        axes[0].legend()

    lines = -(-len(panels) // 2)
    alt = "lengths, actions, time gaps and item popularity of real and synthetic users"
    return render(f"shapes_{name}", (8.6, 2.7 * lines), draw, alt=alt, columns=2, rows=lines)


def plot_transitions(plots: Mapping[str, Any], name: str) -> str:
    """Draws transition tables of actions and categories, real left and synthetic right."""
    tables = [
        (title, _trim(plots[key]))
        for key, title in (
            ("action_transitions", "next action"),
            ("category_transitions", "next category"),
        )
        if plots.get(key) and len(plots[key]["names"]) > 1 and np.sum(plots[key]["real"]) > 0
    ]
    tables = [(title, table) for title, table in tables if len(table["names"]) > 1]
    if not tables:
        return ""

    def draw(*axes: Axes) -> None:
        for line, (title, table) in enumerate(tables):
            for column, (side, colour) in enumerate(_SIDES):
                ax = axes[2 * line + column]
                _draw_table(ax, table["names"], np.asarray(table[side]), series(colour))
                ax.set_title(f"{title}, {side}")

    heights = sum(1.2 + 0.26 * len(table["names"]) for _, table in tables)
    alt = "how often each action and category follows each other, real and synthetic"
    return render(f"moves_{name}", (8.6, heights), draw, alt=alt, columns=2, rows=len(tables))


def plot_gate(gate: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """Draws, per strategy, what was kept and what the gate took out and why.

    Args:
        gate: strategy -> {"drawn", "kept", "removed": {reason: records}}, summed over seeds.
        name: makes the figure's name unique.
    """
    gate = {strategy: counts for strategy, counts in gate.items() if counts.get("drawn")}
    if not gate:
        return ""
    reasons = list(dict.fromkeys(r for counts in gate.values() for r in counts["removed"]))

    def draw(axes: Axes) -> None:
        left = np.zeros(len(gate))
        total = np.array([counts["drawn"] for counts in gate.values()], float)
        labels = [strategy.replace("_", " ") for strategy in gate]
        for place, reason in enumerate(["kept", *reasons]):
            values = [c["removed"].get(reason, 0) if place else c["kept"] for c in gate.values()]
            share = np.asarray(values) / total
            colour = series((3, 4, 5, 6, 7, 0, 1)[(place - 1) % 7] if place else 2)
            label = f"{reason.replace('_', ' ')} {sum(values):,}"
            axes.barh(labels, share, left=left, height=0.6, color=colour, alpha=0.8, label=label)
            left = left + share
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.tick_params(axis="y", labelsize=10, labelcolor=INK)
        axes.set_xlabel("share of the draws")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, columnspacing=1.2)
        axes.set_xlim(0, 1)
        bare(axes, "x")

    lines = 1 + len(reasons) // 4
    size = (8.6, 0.8 + 0.4 * len(gate) + 0.25 * lines)
    return render(f"gate_{name}", size, draw, alt="draws kept and taken out by the gate")


def _draw_lengths(axes: Axes, plot: Mapping[str, Any]) -> None:
    for side, colour in _SIDES:
        axes.step(plot["events"], plot[side], where="mid", color=series(colour), label=side)
    _shares(axes)


def _draw_gaps(axes: Axes, plot: Mapping[str, Any]) -> None:
    for side, colour in _SIDES:
        axes.step(plot["bins"], plot[side], where="mid", color=series(colour), label=side)
    bins = plot["bins"][1 :: max(1, len(plot["bins"]) // 4)]
    axes.set_xticks(bins, [_span(int(b)) for b in bins])
    _shares(axes)


def _draw_nearest(axes: Axes, plot: Mapping[str, Any]) -> None:
    for side, colour in _SIDES:
        axes.step(plot["similarity"], plot[side], where="post", color=series(colour), label=side)
    axes.set_xlim(0, 1)
    _shares(axes)


def _draw_actions(axes: Axes, plot: Mapping[str, Any]) -> None:
    used = [
        place
        for place in range(len(plot["names"]))
        if max(plot["real"][place], plot["synthetic"][place]) > 0
    ]
    places = np.arange(len(used))
    for shift, (side, colour) in zip((-0.2, 0.2), _SIDES, strict=True):
        values = [plot[side][place] for place in used]
        axes.bar(places + shift, values, 0.38, color=series(colour), label=side, alpha=0.85)
    axes.set_xticks(places, [plot["names"][place] for place in used])
    _shares(axes)


def _draw_popularity(axes: Axes, plot: Mapping[str, Any]) -> None:
    for side, colour in _SIDES:
        shares = np.asarray(plot[side], float)
        some = shares > 0
        ranks = np.asarray(plot["rank"])[: len(shares)]
        axes.plot(ranks[some], shares[some], color=series(colour), label=side)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("item, most popular first")
    axes.set_ylabel("share of events")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.3g} %"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    bare(axes)
    axes.tick_params(which="both", length=0)


def _shares(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(bottom=0)
    bare(axes)


def _draw_table(axes: Axes, names: Sequence[str], shares: np.ndarray, colour: str) -> None:
    top = max(float(shares.max()), 1e-9)
    for row, line in enumerate(shares):
        for column, share in enumerate(line):
            alpha = float(0.04 + 0.9 * share / top)
            axes.add_patch(Rectangle((column, row), 0.94, 0.94, color=colour, alpha=alpha, lw=0))
            if share >= 0.005 and len(names) <= 9:
                text = f"{100 * share:.0f}"
                axes.text(column + 0.47, row + 0.5, text, ha="center", va="center", size=8.5)
    axes.set_xlim(0, len(names))
    axes.set_ylim(len(names), 0)
    centres = np.arange(len(names)) + 0.47
    short = [_shorten(label) for label in names]
    axes.set_yticks(centres, short)
    axes.set_xticks(centres, short, rotation=45, ha="right", rotation_mode="anchor")
    bare(axes, "")


def _trim(plot: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out names without events, and all but the first rows of a large table."""
    both = np.asarray(plot["real"], float) + np.asarray(plot["synthetic"], float)
    used = np.flatnonzero(both.sum(axis=0) + both.sum(axis=1) > 0)[:_MAX_CELLS]
    cells = np.ix_(used, used)
    tables: dict[str, Any] = {side: np.asarray(plot[side], float)[cells] for side, _ in _SIDES}
    return {"names": [str(plot["names"][place]) for place in used], **tables}


def _shorten(label: str) -> str:
    """Returns the last level of a category path, at most 18 characters.

    Example:
        >>> _shorten("Home > Kitchen > Kettles")
        'Kettles'
    """
    label = label.split(" > ")[-1]
    return label if len(label) <= 18 else label[:17] + "…"


def _span(gap_bin: int) -> str:
    """Returns the least time of a log2 gap bin (1 + floor(log2(1 + seconds))) as a person says it.

    Example:
        >>> _span(1), _span(8), _span(13)
        ('0 s', '2 min', '1 h')
    """
    if gap_bin == 0:
        return "first"
    seconds = 2 ** (gap_bin - 1) - 1
    for name, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds} s"
