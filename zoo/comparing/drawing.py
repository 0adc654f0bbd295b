"""The drawings of a comparison, as SVG that follows the page's colours: quality against cost, and figures with their intervals."""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 420, 310
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 12, 14, 44
_ROW, _NAMES = 26, 158  # height of a row of intervals, and width of the names beside them
_LONGEST = 22  # letters of a name


class Point(NamedTuple):
    """A model in the plane of cost and quality.

    Attributes:
        cost: above 0. value, low, high: of the quality, from 0 to 1. inside: whether it is within the budget.
    """

    name: str
    cost: float
    value: float
    low: float
    high: float
    inside: bool = True


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both: the cheapest of each quality, from the cheapest on (Pareto)."""
    found: list[Point] = []
    for point in sorted(points, key=lambda one: (one.cost, -one.value)):
        if not found or point.value > found[-1].value:
            found.append(point)
    return found


def pareto(points: Sequence[Point], title: str, unit: str) -> str:
    """Quality against cost, on a logarithmic axis, with intervals and the line of those that no other beats; "" for no point.

    Args:
        title: what is to be seen, for those who cannot see it. unit: of the cost, under the axis.
    """
    if not points:
        return ""
    x_low, x_high = min(p.cost for p in points) / 1.35, max(p.cost for p in points) * 1.35
    y_low, y_high = _room(min(p.low for p in points), max(p.high for p in points))

    def x(cost: float) -> float:
        share = math.log(cost / x_low) / math.log(x_high / x_low)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - _TOP - _BOTTOM)

    parts = [_opened(WIDTH, HEIGHT, title)]
    for tick in _ticks(y_low, y_high):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{100 * tick:g}</text>'
        )
    for tick in _log_ticks(x_low, x_high):
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
        parts.append(
            f'<text class="tick" x="{x(tick):.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(
        f'<text class="axis" x="{(_LEFT + WIDTH - _RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(unit)}</text>'
    )
    line = " ".join(f"{x(p.cost):.1f},{y(p.value):.1f}" for p in front(points))
    parts.append(f'<polyline class="front" points="{line}"/>')
    for p in points:
        parts.append(
            f'<line class="whisker" x1="{x(p.cost):.1f}" x2="{x(p.cost):.1f}" y1="{y(p.low):.1f}" y2="{y(p.high):.1f}"/>'
        )
        parts.append(
            f'<circle class="{"point" if p.inside else "point out"}" cx="{x(p.cost):.1f}" cy="{y(p.value):.1f}" r="5"/>'
        )
    parts += _labels([(p.name, x(p.cost), y(p.value)) for p in points])
    return "".join([*parts, "</svg>"])


def _labels(points: Sequence[tuple[str, float, float]]) -> list[str]:
    """A name beside each point, where it lies on no other name and no point."""
    taken = [(x - 6, x + 6, y - 6, y + 6) for _, x, y in points]  # left, right, top, bottom
    found = []
    for name, x, y in sorted(points, key=lambda point: point[2]):
        shown = _short(name)
        wide = 7.2 * len(shown)
        places = [(x + 9, y + shift) for shift in (4, -10, 18, -24, 32)]
        places += [(x - 9 - wide, y + shift) for shift in (4, -10, 18, -24, 32)]
        inside = [(left, line) for left, line in places if left > 2 and left + wide < WIDTH - 2] or places
        left, line = next((place for place in inside if not _meets(*place, wide, taken)), inside[0])
        taken.append((left, left + wide, line - 11, line + 3))
        found.append(f'<text class="name" x="{left:.1f}" y="{line:.1f}">{html.escape(shown)}</text>')
    return found


def _meets(left: float, line: float, wide: float, taken: Sequence[tuple[float, float, float, float]]) -> bool:
    """Whether a name would lie on something."""
    return any(
        left < right and begin < left + wide and line - 11 < bottom and top < line + 3
        for begin, right, top, bottom in taken
    )


def intervals(rows: Sequence[tuple[str, float, float, float]], title: str) -> str:
    """A row for each model: its figure as a point, its interval as a line.

    Args:
        rows: name, value, low and high, shares. title: what is to be seen, for those who cannot see it.
    """
    low, high = _room(min(row[2] for row in rows), max(row[3] for row in rows))
    height = _ROW * len(rows) + 24

    def x(value: float) -> float:
        return _NAMES + (value - low) / (high - low) * (WIDTH - _NAMES - 20)

    parts = [_opened(WIDTH, height, title)]
    for tick in _ticks(low, high):
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="4" y2="{height - 20}"/>')
        parts.append(
            f'<text class="tick" x="{x(tick):.1f}" y="{height - 6}" text-anchor="middle">{100 * tick:g}</text>'
        )
    for place, (name, value, begin, end) in enumerate(rows):
        y = 4 + _ROW * (place + 0.5)
        parts.append(
            f'<text class="name" x="{_NAMES - 10}" y="{y + 4:.1f}" text-anchor="end">{html.escape(_short(name))}</text>'
        )
        parts.append(f'<line class="whisker" x1="{x(begin):.1f}" x2="{x(end):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<circle class="point" cx="{x(value):.1f}" cy="{y:.1f}" r="5"/>')
    return "".join([*parts, "</svg>"])


def _opened(width: int, height: int, title: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title, quote=True)}"><title>{html.escape(title)}</title>'


def _short(name: str) -> str:
    shown = "".join(letter if letter.isprintable() else " " for letter in name)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def _room(low: float, high: float) -> tuple[float, float]:
    """A range with some room around values; never none."""
    margin = max(0.08 * (high - low), 0.01)
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within a range, four to nine of them."""
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [round(step * number, 10) for number in range(first, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis, eight of them at most."""
    if high < 4 * low:
        return _ticks(low, high)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(ticks) <= 8:
            return ticks or [round((low * high) ** 0.5, 3)]
    return ticks[:: 1 + len(ticks) // 8]
