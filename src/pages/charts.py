# SPDX-License-Identifier: Apache-2.0
"""Curves for pages: SVG by matplotlib, in the page's own colours, with values under the pointer.

No text of a user gets into the SVG: names of curves stand in the legend, which the page writes.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..base.plots import import_matplotlib

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

COLORS = 6  # of curves that can be told apart; --curve-1 to --curve-6 in page.css
_WIDTH, _HEIGHT = 440, 240  # units of the SVG, about pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 36  # its margins
_MOST_POINTS = 500  # of a curve
_HEADROOM = 1.06  # of the axis, above the highest value
_MOST_MARKS = 30  # vertical lines that can be told apart
_INK, _FAINT, _LINE = "#010101", "#010102", "#010103"  # stand for the page's colours
_VARIABLES = {_INK: "--ink", _FAINT: "--faint", _LINE: "--line"}
_VARIABLES |= {f"#0200{n:02x}": f"--curve-{n}" for n in range(1, COLORS + 1)}
_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "page", "axes.unicode_minus": False}


class Curve(NamedTuple):
    """A curve of a chart.

    Attributes:
        name: in the legend and under the pointer.
        y: (N,) values; NaN where there is none.
        color: 1 to `COLORS`, or 0 for the colour of texts.
        style: faint for what another curve is the average of.
    """

    name: str
    y: Sequence[float] | np.ndarray
    color: int = 0
    style: Literal["solid", "dashed", "faint", "dots"] = "solid"


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, for the macro `chart`.

    Attributes:
        title: stands above it.
        svg: the drawing.
        legend: (name, colour of CSS, style) of the curves.
        hover: what the pointer shows; see `charts.js`.
    """

    title: str
    svg: "Markup"
    legend: Sequence[tuple[str, str, str]]
    hover: dict[str, Any]


def line_chart(
    title: str,
    x: Sequence[float] | np.ndarray,
    curves: Sequence[Curve],
    *,
    x_label: str,
    digits: int = 3,
    x_digits: int = 0,
    y_range: tuple[float | None, float | None] = (0.0, None),
    x_range: tuple[float, float] | None = None,
    marks: Sequence[float] = (),
    diagonal: bool = False,
) -> Chart | None:
    """Draw curves over one axis; None where there is nothing to draw.

    Args:
        title: stands above the chart.
        x: (N,) rising values. Of very many a part is drawn: every second, third, ...
        curves: each of N values; those without a number are left out.
        x_label: below the axis.
        digits: of the values that the pointer shows.
        x_digits: of the place that it shows.
        y_range: lowest and highest value of the axis; None: that of the curves.
        x_range: ends of the axis; default: those of `x`.
        marks: places of vertical lines, such as ends of epochs; too many are left out.
        diagonal: a line from corner to corner, where y is x.
    """
    from markupsafe import Markup

    places, drawn = _thinned(x, curves)
    if not drawn:
        return None
    figure, axes = _empty_chart(x_label, whole=bool((places == places.round()).all()))
    for curve in drawn:
        _draw(axes, places, curve)
    if diagonal:
        axes.axline((0, 0), (1, 1), color=_FAINT, linewidth=1, linestyle=":")
    low, high = x_range or (places[0], places[-1])
    axes.set_xlim(*((low, high) if high > low else (low - 0.5, low + 0.5)))  # one in the middle
    bottom, top = y_range
    if top is None:
        highest = max(float(np.nanmax(curve.y)) for curve in drawn)
        top = highest * _HEADROOM if highest > 0 else None
    axes.set_ylim(bottom, top)
    for mark in marks if len(marks) <= _MOST_MARKS else ():
        axes.axvline(mark, color=_LINE, linewidth=1, linestyle=":", zorder=0)
    return Chart(
        title=title,
        svg=Markup(_as_svg(figure)),
        legend=[(c.name, _css(c.color), c.style) for c in drawn],
        hover=_hover(axes, places, drawn, x_label, x_digits, digits),
    )


def _thinned(
    x: Sequence[float] | np.ndarray, curves: Sequence[Curve]
) -> tuple[np.ndarray, list[Curve]]:
    """At most `_MOST_POINTS` places, the last one above all, and the curves that have values."""
    places = np.asarray(x, np.float64)
    step = max(-(-len(places) // _MOST_POINTS), 1)
    kept = np.arange(len(places) - 1, -1, -step)[::-1]
    drawn = [curve._replace(y=np.asarray(curve.y, np.float64)[kept]) for curve in curves]
    return places[kept], [curve for curve in drawn if np.isfinite(curve.y).any()]


def _hover(
    axes: "Axes",
    places: np.ndarray,
    curves: Sequence[Curve],
    x_label: str,
    x_digits: int,
    digits: int,
) -> dict[str, Any]:
    """What `charts.js` needs to show the values under the pointer."""
    at = axes.transData.transform(np.column_stack([places, np.zeros(len(places))]))[:, 0]
    return {
        "frame": [_LEFT, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM],
        "width": _WIDTH,
        "label": x_label,
        "at": [round(float(value), 1) for value in at],
        "x": _texts(places, x_digits),
        "curves": [
            {"name": c.name, "color": _css(c.color), "y": _texts(c.y, digits)} for c in curves
        ],
    }


def _empty_chart(x_label: str, *, whole: bool) -> tuple[Any, "Axes"]:
    """A figure and its axes, in the page's style; `whole`: places are whole numbers."""
    import_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72), dpi=72)
    axes = figure.add_axes(
        (
            _LEFT / _WIDTH,
            _BOTTOM / _HEIGHT,
            1 - (_LEFT + _RIGHT) / _WIDTH,
            1 - (_TOP + _BOTTOM) / _HEIGHT,
        )
    )
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    axes.set_xlabel(x_label, fontsize=11, color=_FAINT)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10], integer=whole))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axes.tick_params(length=0, labelsize=10.5, labelcolor=_FAINT, pad=5)
    axes.grid(axis="y", color=_LINE, linewidth=1)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_LINE)
    return figure, axes


def _draw(axes: "Axes", x: np.ndarray, curve: Curve) -> None:
    color = _INK if curve.color == 0 else f"#0200{curve.color:02x}"
    faint, dots = curve.style == "faint", curve.style == "dots"
    axes.plot(
        x,
        curve.y,
        color=color,
        alpha=0.3 if faint else 1.0,
        linewidth=1 if faint else 2,
        linestyle="--" if curve.style == "dashed" else "-",
        marker="o" if dots or np.isfinite(curve.y).sum() == 1 else "",
        markersize=5,
    )


def _as_svg(figure: Any) -> str:
    """The drawing as an SVG element that fits into a page and follows its colours."""
    buffer = io.StringIO()
    with import_matplotlib().rc_context(_SETTINGS):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # What would hold for the whole page, and what the page knows better.
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 aria-hidden="true"', svg, count=1)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return re.sub(r"\n\s*", "\n", svg)


def _css(color: int) -> str:
    return f"var(--curve-{color})" if color else "var(--ink)"


def _texts(values: Sequence[float] | np.ndarray, digits: int) -> list[str]:
    return [f"{value:,.{digits}f}" if np.isfinite(value) else "" for value in values]
