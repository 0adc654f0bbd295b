"""Small drawings as SVG that follow a page's colours: curves over steps, bars, planes and spreads. Nothing is loaded."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.html_page import safe

WIDTH, HEIGHT = 340, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 40


class Point(NamedTuple):
    """One point of a curve: what it stands above, its value, and the ends of its interval where it has one."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None


class Curve(NamedTuple):
    """A curve and its colour, "a" or "b"; that of "b" is dashed, with squares."""

    name: str
    colour: str
    points: Sequence[Point]


def curves(alt: str, found: Sequence[Curve], *, percent: bool = False) -> str:
    """Curves over the same labels, one after the other; the axis holds 0 where values do not go below.

    Args:
        alt: what is to be seen, in words. percent: values are shares.
    """
    every = [end for curve in found for p in curve.points for end in (p.value, p.low, p.high) if end is not None]
    bottom, top = min(0.0, *every), max(every)
    bottom, top = (0.0, 1.0) if percent else (bottom, top + (top - bottom or 1.0) * 0.05)
    labels = list(dict.fromkeys(p.label for curve in found for p in curve.points))
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels))
    across = {label: _LEFT + (place + 0.5) * step for place, label in enumerate(labels)}
    parts = [*_levels(bottom, top, percent), *(_below(across[label], label, step) for label in labels)]
    for curve in found:
        at = [(across[p.label], _height(p.value, bottom, top)) for p in curve.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<polyline class="{curve.colour}" points="{path}"/>')
        for (x, y), p in zip(at, curve.points, strict=True):
            if p.low is not None and p.high is not None:
                ends = (_height(p.low, bottom, top), _height(p.high, bottom, top))
                parts.append(
                    f'<line class="{curve.colour} thin" x1="{x:.1f}" x2="{x:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}"/>'
                )
            said = f"{curve.name}, {p.label}: {_number(p.value, percent, fine=True)}"
            parts.append(_mark(curve.colour, x, y, said))
    return _svg(alt, parts)


def bars(alt: str, found: Sequence[Point]) -> str:
    """A bar for each share, side by side from above, with its interval and its value."""
    row, label_width = 20, 92
    wide = WIDTH - label_width - 56
    parts = []
    for place, p in enumerate(found):
        y = 6 + place * row
        x = label_width + wide * p.value
        parts.append(f'<text class="label" x="{label_width - 8}" y="{y + 13}" text-anchor="end">{safe(p.label)}</text>')
        parts.append(f'<rect class="a" x="{label_width}" y="{y + 3}" width="{wide * p.value:.1f}" height="13" rx="2"/>')
        if p.low is not None and p.high is not None:
            ends = (label_width + wide * p.low, label_width + wide * p.high)
            parts.append(f'<line class="whisker" x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{y + 9.5}" y2="{y + 9.5}"/>')
            x = max(x, ends[1])
        parts.append(f'<text class="value" x="{x + 6:.1f}" y="{y + 13}">{_number(p.value, True, fine=True)}</text>')
    return _svg(alt, parts, 12 + row * len(found))


def plane(alt: str, sides: Sequence[tuple[str, np.ndarray]]) -> str:
    """Points `(n, 2)` of two sides, circles and squares, in one scale both ways."""
    every = np.concatenate([points for _, points in sides])
    middle, reach = (every.max(0) + every.min(0)) / 2, (every.max(0) - every.min(0)) / 2
    wide, high = (WIDTH - 24) / 2, (HEIGHT - 24) / 2
    scale = min(wide / max(reach[0], 1e-9), high / max(reach[1], 1e-9))
    parts = []
    for colour, (_, points) in zip("ab", sides, strict=True):
        for x, y in (points - middle) * scale:
            parts.append(_mark(colour, WIDTH / 2 + x, HEIGHT / 2 - y, "", small=True))
    return _svg(alt, parts)


def spread(alt: str, edges: np.ndarray, right: np.ndarray, wrong: np.ndarray) -> str:
    """Two spreads of cosines over each other, each with an area of its own; `edges` `(bins + 1,)` of the shares `(bins,)`."""
    top = max(right.max(), wrong.max())
    span = edges[-1] - edges[0]

    def across(value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (value - edges[0]) / span

    parts = [_below(across(value), f"{value:.2f}", 60) for value in _round_values(edges[0], edges[-1])]
    for colour, shares in (("b", wrong), ("a", right)):
        steps = [f"{across(edges[0]):.1f},{_height(0, 0, top):.1f}"]
        for place, share in enumerate(shares):
            y = _height(float(share), 0, top)
            steps += [f"{across(edges[place]):.1f},{y:.1f}", f"{across(edges[place + 1]):.1f},{y:.1f}"]
        steps.append(f"{across(edges[-1]):.1f},{_height(0, 0, top):.1f}")
        parts.append(f'<polygon class="{colour}" points="{" ".join(steps)}"/>')
    return _svg(alt, parts)


def _svg(alt: str, parts: Sequence[str], height: float = HEIGHT) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{safe(alt)}">{"".join(parts)}</svg>'


def _levels(bottom: float, top: float, percent: bool) -> list[str]:
    """Lines across, with their numbers on the left."""
    parts = []
    for value in _round_values(bottom, top):
        y = _height(value, bottom, top)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="label" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(value, percent)}</text>'
        )
    return parts


def _round_values(bottom: float, top: float) -> list[float]:
    """Up to six round numbers between two."""
    span = max(top - bottom, 1e-9)
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (step * factor) <= 5)
    first = math.ceil(bottom / step - 1e-9)
    return [round(place * step, 10) for place in range(first, math.floor(top / step + 1e-9) + 1)]


def _height(value: float, bottom: float, top: float) -> float:
    share = (value - bottom) / (top - bottom or 1.0)
    return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _below(x: float, label: str, room: float) -> str:
    """A label below the axis, in two lines where it is wider than its room."""
    y, words = HEIGHT - _BOTTOM + 16, label.split()
    if 7 * len(label) <= room or len(words) < 2:
        return f'<text class="label" x="{x:.1f}" y="{y}" text-anchor="middle">{safe(label)}</text>'
    middle = max(1, len(words) // 2)
    lines = (" ".join(words[:middle]), " ".join(words[middle:]))
    inner = "".join(f'<tspan x="{x:.1f}" dy="{13 * (n > 0)}">{safe(line)}</tspan>' for n, line in enumerate(lines))
    return f'<text class="label" y="{y}" text-anchor="middle">{inner}</text>'


def _mark(colour: str, x: float, y: float, said: str, small: bool = False) -> str:
    title = f"<title>{safe(said)}</title>" if said else ""
    r = 2.4 if small else 3.5
    if colour == "a":
        return f'<circle class="a mark" cx="{x:.1f}" cy="{y:.1f}" r="{r}">{title}</circle>'
    return f'<rect class="b mark" x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r}" height="{2 * r}">{title}</rect>'


def _number(value: float, percent: bool, fine: bool = False) -> str:
    if percent:
        return f"{100 * value:.1f} %" if fine else f"{100 * value:.0f} %"
    return f"{value:.3f}" if fine else f"{value:g}"
