"""Figures as inline SVG that follow the page's light and dark colours.

Lives here: the canvas, the palette and the way from a matplotlib figure to a string. Not here: what
is drawn (`plots`). No pyplot: no state, no window, no effect on import.

matplotlib writes fixed colours, so every colour is drawn as a stand-in (`INK`, `series(0)`, ...)
and replaced by a CSS variable of the page afterwards. Text stays text and takes the page's font.
"""

import io
import re
import warnings
from collections.abc import Callable
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

INK, MUTED, LINE, PAPER = "#010101", "#020202", "#030303", "#040404"
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--card"}
_NUM_SERIES = 8

# arms keep their colour in every figure of a report
_ARM_SERIES = {
    "real": 0,
    "synthetic": 1,
    "expanded": 1,
    "oracle": 2,
    "ceiling": 2,
    "floor": 7,
    "popularity": 6,
    "item_knn": 6,
    "ease": 6,
}
_FIRST_OTHERS = (3, 4, 5)

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a title with two dollar signs is no formula
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}


def series(place: int) -> str:
    """Returns the stand-in colour of a series, 0 to 7."""
    return f"#0a0a{place % _NUM_SERIES:02x}"


def arm_colour(arm: str, arms: list[str]) -> str:
    """Returns the colour of an arm; arms without one of their own share what is left, in order."""
    if arm in _ARM_SERIES:
        return series(_ARM_SERIES[arm])
    others = [name for name in arms if name not in _ARM_SERIES]
    taken = {_ARM_SERIES[name] for name in arms if name in _ARM_SERIES}
    left = dict.fromkeys((*_FIRST_OTHERS, *range(_NUM_SERIES)))
    free = [place for place in left if place not in taken]
    return series(free[others.index(arm) % len(free)])


def render(
    name: str,
    size: tuple[float, float],
    draw: Callable[..., None],
    *,
    alt: str,
    columns: int = 1,
    rows: int = 1,
    widths: list[float] | None = None,
) -> str:
    """Draws a figure and returns it as an SVG element.

    Args:
        name: unique on the page; makes the SVG's inner ids unique and deterministic.
        size: width and height in inches at 72 points; the page scales the figure.
        draw: called with the axes, one argument each, row by row.
        alt: what the figure shows, for those who cannot see it.
        columns: panels beside each other.
        rows: panels below each other.
        widths: relative widths of the columns.

    Returns:
        "<svg ...>...</svg>" without any address outside the page.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # layout measures text in matplotlib's font, the page shows it in one that has the glyph
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        layout = ConstrainedLayoutEngine(h_pad=0.09, w_pad=0.06, hspace=0.04)
        figure = Figure(figsize=size, layout=layout)
        FigureCanvasSVG(figure)
        axes = figure.subplots(rows, columns, squeeze=False, width_ratios=widths)
        draw(*axes.ravel())
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    return _inline(text.getvalue(), name, alt)


def bare(axes: Axes, grid: Literal["x", "y", ""] = "y") -> None:
    """Leaves only the grid across the values: "x", "y" or "" for none."""
    axes.grid(False)
    if grid:
        axes.grid(True, axis=grid)
    axes.tick_params(length=0)
    for side in ("left", "right", "top") if grid != "x" else ("bottom", "right", "top"):
        axes.spines[side].set_visible(False)


def _inline(svg: str, name: str, alt: str) -> str:
    """Takes off header, metadata and namespaces, and puts the page's colours in."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # would act on the whole page
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(width|height)="[\d.]+pt"\s*', "", svg, count=2)
    svg = re.sub(r'\bid="(figure|axes|patch|text|line2d|legend)_', rf'id="{name}_\1_', svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"#0a0a(0\d)", lambda found: f"var(--s{int(found[1])})", svg)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    label = alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
