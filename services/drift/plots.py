"""Plots as SVG text that stands inside a page: lines with bands, and a map of values by row and day. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 920, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 14, 26
_TICKS = 4
_LABEL_EVERY = 8  # dates below the axis, at most so many


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series; None where nothing is known. ``error``: half the height of its band."""

    name: str
    color: str
    values: Sequence[float | None]
    errors: Sequence[float | None] = ()
    dotted: bool = False


def line_chart(
    title: str, days: Sequence[str], lines: Sequence[Line], marks: Mapping[int, str], *, percent: bool
) -> str:
    """Lines over ``days``; ``marks``: place among the days -> what happened, drawn as a vertical."""
    known = [value for line in lines for value in line.values if value is not None]
    if not known or not days:
        return _empty(title)
    low, high = min(0.0, *known), max(*known, 1e-9)
    high += (high - low) * 0.08

    def x(place: int) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (place + 0.5) / len(days)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (min(max(value, low), high) - low) / (high - low)

    parts = [_open(title, HEIGHT)]
    for tick in range(_TICKS + 1):
        level = low + (high - low) * tick / _TICKS
        shown = f"{level:.0%}" if percent else f"{level:.3g}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(level):.1f}" y2="{y(level):.1f}"/>')
        parts.append(f'<text class="axis" x="{_LEFT - 6}" y="{y(level) + 4:.1f}" text-anchor="end">{shown}</text>')
    parts += _dates(days, x, HEIGHT)
    for place, what in marks.items():
        parts.append(f'<line class="mark" x1="{x(place):.1f}" x2="{x(place):.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}">'
                     f"<title>{escape(what)}</title></line>")  # fmt: skip
    for line in lines:
        for place, (value, error) in enumerate(zip(line.values, line.errors, strict=False)):
            if value is not None and error:
                parts.append(
                    f'<line x1="{x(place):.1f}" x2="{x(place):.1f}" y1="{y(value - error):.1f}" '
                    f'y2="{y(value + error):.1f}" stroke="{line.color}" stroke-opacity="0.3" stroke-width="4"/>'
                )
        dash = ' stroke-dasharray="2 4"' if line.dotted else ""
        for stretch in _stretches(line.values):
            points = " ".join(f"{x(place):.1f},{y(value):.1f}" for place, value in stretch)
            parts.append(f'<polyline fill="none" stroke="{line.color}" stroke-width="2"{dash} points="{points}"/>')
            if len(stretch) == 1:
                place, value = stretch[0]
                parts.append(f'<circle cx="{x(place):.1f}" cy="{y(value):.1f}" r="2.5" fill="{line.color}"/>')
    legend = " ".join(
        f'<tspan fill="{line.color}">{"┄" if line.dotted else "━"} {escape(line.name)}</tspan>' for line in lines
    )
    parts.append(f'<text class="legend" x="{_LEFT}" y="{_TOP - 2}">{legend}</text></svg>')
    return "\n".join(parts)


def value_map(title: str, days: Sequence[str], rows: Mapping[str, Sequence[float | None]], floor: float) -> str:
    """One row a name, one cell a day, darker the larger; from ``floor`` on in the colour of alarm."""
    if not rows or not days:
        return _empty(title)
    left, cell = 250, 15
    height = _TOP + len(rows) * cell + _BOTTOM
    width = (WIDTH - left - _RIGHT) / len(days)

    def x(place: int) -> float:
        return left + (place + 0.5) * width

    parts = [_open(title, height)]
    for number, (name, values) in enumerate(rows.items()):
        top = _TOP + number * cell
        parts.append(f'<text class="axis" x="{left - 6}" y="{top + 11}" text-anchor="end">{escape(name)}</text>')
        for place, value in enumerate(values):
            if value is None:
                continue
            strength = min(1.0, math.sqrt(max(value, 0.0) / (2.5 * floor)))
            color = "var(--alarm)" if value >= floor else "var(--calm)"
            parts.append(f'<rect x="{left + place * width:.1f}" y="{top}" width="{max(width - 0.5, 0.5):.1f}" '
                         f'height="{cell - 1}" fill="{color}" fill-opacity="{0.06 + 0.94 * strength:.2f}">'
                         f"<title>{escape(name)}, {days[place]}: {value:.3f}</title></rect>")  # fmt: skip
    parts += _dates(days, x, height)
    parts.append("</svg>")
    return "\n".join(parts)


def _open(title: str, height: int) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'


def _empty(title: str) -> str:
    return f'{_open(title, 40)}<text class="axis" x="{_LEFT}" y="24">{escape(title)}: nothing known yet</text></svg>'


def _dates(days: Sequence[str], x: Callable[[int], float], height: int) -> list[str]:
    step = max(1, math.ceil(len(days) / _LABEL_EVERY))
    return [
        f'<text class="axis" x="{x(place):.1f}" y="{height - 8}" text-anchor="middle">{day}</text>'
        for place, day in enumerate(days)
        if place % step == 0
    ]


def _stretches(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Runs of known values."""
    found: list[list[tuple[int, float]]] = [[]]
    for place, value in enumerate(values):
        if value is not None:
            found[-1].append((place, value))
        elif found[-1]:
            found.append([])
    return [stretch for stretch in found if stretch]
