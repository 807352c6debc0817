"""The page's figures as inline SVG: F1 of each finding, predicted against true prevalence, report lengths.

Drawn with matplotlib's object API, so that no window and no global state is needed. Text stays text; the colours
become the page's CSS variables, so that the figures follow light and dark; ids are made unique, since all figures
stand in one document. The same data gives the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox

from .page_numbers import Interval, show_score

# What matplotlib draws with, and what the page's style sheet has in its place.
INK, FAINT, LINE, ACCENT, PANEL, PAPER = "#1c2024", "#5b6570", "#dce1e5", "#0a6c86", "#f5f7f8", "#fefefe"
_VARIABLES = {PAPER: "--paper", INK: "--ink", FAINT: "--faint", LINE: "--line", ACCENT: "--accent", PANEL: "--panel"}
_WIDTH = 4.9  # inches: 353 points, about what a phone shows without shrinking
_STYLE: Any = {  # its annotation names each of three hundred settings
    "svg.fonttype": "none",
    "svg.hashsalt": "radscribe",
    "font.size": 10,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": FAINT,
    "axes.labelsize": 9.5,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": FAINT,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.facecolor": "none",
    "figure.dpi": 72,  # pixels are points, as in SVG: labels are placed in pixels
}


@dataclass
class Bar:
    """One finding: F1 of the model and, if there is one, of the control, with intervals; `support` studies have it."""

    name: str
    support: int
    value: float
    interval: Interval | None
    control: float | None = None
    control_interval: Interval | None = None


def draw_findings(bars: Sequence[Bar], label: str, name: str = "findings") -> str:
    """F1 of each finding as bars with whiskers, the model's filled above the control's outlined: SVG.

    `name` tells two such figures of one page apart.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.9 + 0.33 * len(bars)), layout="constrained")
        axes = figure.add_subplot()
        both = any(bar.control is not None for bar in bars)
        for place, bar in enumerate(bars):
            _draw_bar(axes, place - 0.19 * both, bar.value, bar.interval, filled=True)
            if bar.control is not None:
                _draw_bar(axes, place + 0.19, bar.control, bar.control_interval, filled=False)
        axes.set_yticks(range(len(bars)), [f"{bar.name} ({bar.support})" for bar in bars])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set(xlim=(0, 1), ylim=(len(bars) - 0.4, -0.6), xlabel="F1 (studies that have it in brackets)")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1f}".removeprefix("0")))
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        return _to_svg(figure, name, label)


def _draw_bar(axes: Axes, place: float, value: float, interval: Interval | None, filled: bool) -> None:
    """One horizontal bar, its whisker, and its value behind them."""
    fill: dict[str, Any] = (
        {"color": ACCENT, "linewidth": 0} if filled else {"facecolor": PANEL, "edgecolor": FAINT, "linewidth": 0.8}
    )
    axes.barh(place, value, height=0.34, **fill)
    if interval is not None:
        axes.plot(interval, (place, place), color=INK, linewidth=0.9, marker="|", markersize=4)
    end = max(value, interval.high if interval else 0)
    axes.text(min(end, 1) + 0.015, place, show_score(value), va="center", fontsize=8, color=INK if filled else FAINT)


def draw_prevalence(shares: dict[str, dict[str, float]], label: str) -> str:
    """Share of reports that state each observation against the share of references that do: SVG.

    Both axes are square roots: most observations are rare and would lie on top of one another.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, _WIDTH), layout="constrained")
        axes = figure.add_subplot()
        points = np.array([(share["true"], share["predicted"]) for share in shares.values()])
        top = 1.12 * max(0.05, points.max())
        for scale in (axes.set_xscale, axes.set_yscale):
            scale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
        axes.set(xlim=(0, top), ylim=(0, top), xlabel="stated in so many references", ylabel="in so many reports")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator([t for t in (0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1) if t <= top]))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        axes.grid()
        axes.plot((0, top), (0, top), color=FAINT, linewidth=0.9, dashes=(4, 3))
        axes.plot(*points.T, linestyle="none", marker="o", markersize=6, color=ACCENT, clip_on=False, zorder=3)
        _place_labels(figure, axes, dict(zip(shares, points, strict=True)))
        return _to_svg(figure, "prevalence", label)


def _place_labels(figure: Figure, axes: Axes, points: dict[str, np.ndarray]) -> None:
    """Write each name beside its point, where no other name or point is; a thin line leads to a name further away."""
    figure.draw_without_rendering()  # settles the layout, which the places depend on
    figure.set_layout_engine("none")
    frame = axes.get_window_extent()
    places = dict(zip(points, axes.transData.transform(np.array(list(points.values()))), strict=True))
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in places.values()]
    # A model that recites states most observations never: a crowd along the lower edge, whose names stand aslant.
    crowd = {name: place for name, place in places.items() if place[1] < frame.y0 + 3 and place[0] < frame.x1 - 120}
    if len(crowd) > 2:
        taken += _slant_labels(axes, crowd)
        places = {name: place for name, place in places.items() if name not in crowd}
    for name, (x, y) in sorted(places.items(), key=lambda item: (-item[1][1], -item[1][0])):
        text = axes.text(x, y, name, transform=None, fontsize=8.5, va="center", ha="left", zorder=4)
        text.set_bbox({"facecolor": PAPER, "edgecolor": "none", "pad": 0.5})  # above the leading lines
        size = text.get_window_extent()
        box = _find_room(x, y, (size.width, size.height), frame, taken)
        text.set_position((box.x0, (box.y0 + box.y1) / 2))
        taken.append(box)
        _lead(axes, (x, y), tuple(np.clip((x, y), box.min, box.max)))


def _slant_labels(axes: Axes, places: dict[str, np.ndarray]) -> list[Bbox]:
    """Names above points on one level, side by side at 45 degrees; returns the room that they take."""
    taken, left = [], -np.inf
    for name, (x, y) in sorted(places.items(), key=lambda item: item[1][0]):
        left = max(x, left + 13)
        start = left, y + 14
        axes.text(*start, name, transform=None, fontsize=8.5, rotation=45, rotation_mode="anchor", zorder=4)
        _lead(axes, (x, y), start)
        taken += [Bbox.from_bounds(start[0] + 5 * n - 5, start[1] + 5 * n - 5, 10, 10) for n in range(len(name))]
    return taken


def _lead(axes: Axes, point: tuple[float, float], label: tuple[float, float]) -> None:
    """A thin line from a point to its name, unless the two are close."""
    if np.hypot(label[0] - point[0], label[1] - point[1]) > 9:
        ends = zip(point, label, strict=True)
        axes.add_artist(Line2D(*ends, transform=None, color=FAINT, linewidth=0.6, zorder=2))


def _find_room(x: float, y: float, size: tuple[float, float], frame: Bbox, taken: Sequence[Bbox]) -> Bbox:
    """The box nearest to the point (x, y), within the frame, that touches none of those taken."""
    width, height = size
    for gap in np.arange(6, 260, 5):
        for turn in np.arange(0, 2 * np.pi, np.pi / (4 if gap < 12 else 12)):
            across, up = np.cos(turn), np.sin(turn)
            middle_x, middle_y = x + across * (gap + width / 2), y + up * (gap + height / 2)
            box = Bbox.from_bounds(middle_x - width / 2, middle_y - height / 2, width, height)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                return box
    return Bbox.from_bounds(x + 6, y - height / 2, width, height)  # a crowd: better on top of each other than lost


def draw_lengths(true: Sequence[int], written: Sequence[int], label: str) -> str:
    """Histograms of words a report: the model's filled, the references' as a dashed outline: SVG."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.1), layout="constrained")
        axes = figure.add_subplot()
        longest = max(1, *true, *written)
        width = max(1, round(longest / 30))
        edges = (np.arange(0, longest + 2 * width + 1, width) - 0.5).tolist()
        axes.hist(written, edges, histtype="stepfilled", color=ACCENT, alpha=0.75, label="written")
        axes.hist(true, edges, histtype="step", color=INK, linestyle=(0, (3, 2)), linewidth=1.2, label="references")
        axes.set(xlabel="words a report", ylabel="reports", xlim=(-0.5, edges[-1]))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.legend(frameon=False, loc="upper right")
        return _to_svg(figure, "lengths", label)


def _to_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an <svg> element to stand in a page: its own ids, the page's colours and font, spoken `label`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font(-family)?: ([^;\"]*?)'[^;\"]*", r"font\1: \2var(--font)", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    head, _, body = text.partition(">")
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{escape(label)}">{body}'
