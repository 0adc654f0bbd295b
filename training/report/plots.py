"""The drawings of a report: matplotlib, as SVG that follows the page's colours and as PNG for Markdown."""

import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.evaluation.metrics import Interval

from .page import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Names and light values of the page's colours: in the SVG every value becomes its name, which is dark in the dark.
COLOURS = {
    "card": "#ffffff",
    "ink": "#1b2330",
    "muted": "#596273",
    "grid": "#e2e6ec",
    "before": "#8791a3",
    "after": "#2160d8",
    "queries": "#c2570c",
    "targets": "#0b7f78",
}
_FEW = 40  # points of a curve that are drawn each
_POINTS = 800  # of a curve; more cannot be seen
_SETTINGS = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["grid"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.facecolor": COLOURS["card"],
    "figure.facecolor": COLOURS["card"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def can_draw() -> bool:
    """Whether matplotlib is here."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def curve(
    name: str, title: str, steps: Sequence[float], values: Sequence[float], *, noisy: bool = True, wide: bool = False
) -> Plot:
    """A figure of the training over its steps; a noisy one as measured, thin, and smoothed."""
    x, y = np.asarray(steps), np.asarray(values, dtype=float)
    keep = np.isfinite(y)
    x, y = x[keep], y[keep]
    soft = smooth(y) if noisy else y
    thin = slice(None, None, max(1, math.ceil(len(x) / _POINTS)))

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        if noisy:
            axes.plot(x[thin], y[thin], color=COLOURS["before"], linewidth=0.7, alpha=0.6, label="as logged")
        style = {"color": COLOURS["after"], "linewidth": 1.8, "markersize": 3.5, "marker": "o" if len(x) < _FEW else ""}
        axes.plot(x[thin], soft[thin], label="smoothed" if noisy else None, **style)
        axes.set_xlabel("step")
        axes.margins(x=0.01)
        if not wide and y.min() >= 0 and noisy:
            axes.set_ylim(bottom=0)
        if wide and noisy:
            axes.legend(loc="upper right", ncols=2)

    alt = f"from {soft[0]:.3g} at step {x[0]:.0f} to {soft[-1]:.3g} at step {x[-1]:.0f}; lowest {y.min():.3g}, highest {y.max():.3g}"
    return _plot(name, title, alt, (9.6, 2.9) if wide else (3.3, 2.0), draw)


def smooth(values: np.ndarray) -> np.ndarray:
    """Running mean with exponential weights over about a thirtieth of the run, unbiased at its start."""
    # Σ keep^(n-i) v_i / Σ keep^(n-i): divided by the weights so far, as Adam's moments are, or
    # the line would start at 0.
    keep = 1 - 1 / max(3.0, len(values) / 30)
    out, total, weight = np.empty(len(values)), 0.0, 0.0
    for place, value in enumerate(values):
        total, weight = keep * total + value, keep * weight + 1
        out[place] = total / weight
    return out


def dumbbells(runs: Mapping[str, Mapping[str, Interval]]) -> Plot:
    """Shares by name with their intervals, a row each, before and after on one line.

    Args:
        runs: "before" and "after", or one of them → row name → share 0 to 1.
    """
    names = list(next(iter(runs.values())))
    lanes = dict(zip(runs, (-0.13, 0.13) if len(runs) == 2 else (0,), strict=True))

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for run, rows in runs.items():
            x = np.array([rows[name] for name in names]) * 100
            y, colour = np.arange(len(names)) + lanes[run], COLOURS[run]
            axes.hlines(y, x[:, 1], x[:, 2], color=colour, linewidth=2.2, alpha=0.55)
            axes.plot(x[:, 0], y, "o", color=colour, markersize=6, label=run)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0, labelcolor=COLOURS["ink"])
        axes.grid(axis="y", visible=False)
        axes.set(ylim=(len(names) - 0.5, -0.5), xlim=(-1, 101), xlabel="percent of the queries, with 95 % interval")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    told = (f"{name} " + " → ".join(f"{100 * rows[name].value:.1f} %" for rows in runs.values()) for name in names)
    return _plot(
        "recall", "How often the right answer is found", "; ".join(told), (9.6, 0.75 + 0.42 * len(names)), draw
    )


def arrow(before: tuple[float, float] | None, after: tuple[float, float] | None) -> Plot:
    """Alignment over uniformity, from before to after (the plane of Wang & Isola, 2020)."""
    points = {name: point for name, point in (("before", before), ("after", after)) if point is not None}

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for name, (x, y) in points.items():
            axes.plot(x, y, "o", color=COLOURS[name], markersize=9, label=name, zorder=3)
            axes.annotate(name, (x, y), textcoords="offset points", xytext=(9, 5), color=COLOURS["ink"])
        if len(points) == 2:
            style = {"arrowstyle": "-|>", "color": COLOURS["muted"], "shrinkA": 8, "shrinkB": 8, "linewidth": 1.2}
            axes.annotate("", points["after"], points["before"], arrowprops=style)
        for values, set_limits in zip(zip(*points.values(), strict=True), (axes.set_xlim, axes.set_ylim), strict=True):
            room = max(0.15, 0.45 * (max(values) - min(values)))
            set_limits(min(values) - room, max(values) + room)
        axes.set(xlabel="uniformity (lower: more evenly spread)", ylabel="alignment (lower: pairs closer)")

    alt = "; ".join(f"{name}: uniformity {x:.2f}, alignment {y:.2f}" for name, (x, y) in points.items())
    return _plot("space", "Alignment and uniformity", f"{alt}; lower left is better", (4.6, 3.2), draw)


def planes(planes: Mapping[str, np.ndarray], gaps: Mapping[str, float], sides: tuple[str, str]) -> Plot:
    """Both sides of the pairs on their two main axes, pairs joined by thin lines, centroids as crosses.

    Args:
        planes: "before", "after" → `(2, points, 2)`. gaps: distance of the centroids in the whole space.
    """
    reach = 1.08 * max(float(np.abs(points).max()) for points in planes.values())

    def draw(figure: "Figure") -> None:
        for axes, (name, points) in zip(np.ravel(figure.subplots(1, len(planes))), planes.items(), strict=True):
            _cloud(axes, points, sides)
            axes.set_title(f"{name}: gap {gaps[name]:.2f}", loc="left", fontsize=9, color=COLOURS["ink"])
            axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)

    alt = f"{sides[0]} and {sides[1]} on two main axes; distance of their centroids " + ", ".join(
        f"{gap:.2f} {name}" for name, gap in gaps.items()
    )
    return _plot("gap", "Modality gap", alt, (0.6 + 3.3 * len(planes), 3.2), draw)


def _cloud(axes: "Axes", points: np.ndarray, sides: tuple[str, str]) -> None:
    from matplotlib.collections import LineCollection

    axes.add_collection(
        LineCollection(list(points.transpose(1, 0, 2)), colors=COLOURS["grid"], linewidths=0.5, zorder=1)
    )
    for side, colour, name in zip(points, (COLOURS["queries"], COLOURS["targets"]), sides, strict=True):
        axes.plot(*side.T, "o", color=colour, markersize=3, alpha=0.65, label=name, zorder=2)
    centres = points.mean(1)
    axes.plot(*centres.T, "-", color=COLOURS["ink"], linewidth=1.2, zorder=3)
    axes.plot(*centres.T, "X", color=COLOURS["ink"], markersize=7, label="centroids", zorder=4)


def _plot(name: str, title: str, alt: str, size: tuple[float, float], draw: Callable[["Figure"], None]) -> Plot:
    """Runs `draw` on an empty figure, without pyplot: nothing of the caller's own plots is touched."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        svg, png = io.StringIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.set_layout_engine("none")  # places stay as they were found for the first
        figure.savefig(png, format="png", dpi=144, metadata={"Software": None})
    return Plot(name, title, alt, _themed(svg.getvalue(), f"{title}: {alt}"), png.getvalue())


def _themed(svg: str, label: str) -> str:
    """An inline SVG: no fixed size, the page's font and colours, a label for those who cannot see it."""
    import html

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<g) id="[^"]*"', r"\1", svg)  # figure_1, axes_1: the same in every drawing of the page
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', rf'\1 role="img" aria-label="{html.escape(label)}"', svg, count=1)
    svg = re.sub(r"(?:&quot;|')DejaVu Sans(?:&quot;|')[^;\"]*", "var(--sans)", svg)
    for name, value in COLOURS.items():
        svg = svg.replace(value, f"var(--{name})")
    return svg


def finite(values: Iterable[Any]) -> bool:
    """Whether there is a number to draw."""
    return any(isinstance(value, int | float) and math.isfinite(value) for value in values)
