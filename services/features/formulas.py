"""A view's declared lines as one Python function: state and event in, all features out.

Every windowed feature is made of running totals, counted from the start of the entity's kept log: a window ``(a, b]``
of a series is ``total(b) - total(a)``, and each edge and each difference is computed once, however many features use
it. The function is written out and compiled when the feature set is loaded, as ``dataclasses`` does, because to
interpret a plan costs 3 us an event and this 1.1. Its text holds nothing from the declaration but whole numbers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, cast

from services.features.state import EntityState
from services.features.windows import UNITS_PER_MAJOR, EventOp, Line

Series = Literal["events", "amounts", "labelled", "frauds"]
# (state, event_time_ms, amount_minor, minor units of a major one) -> every feature of the view
Formula = Callable[[EntityState, int, int, int], tuple[float, ...]]
# The same of the event alone, for those of its features that need no more.
EventFormula = Callable[[int, int, int], tuple[float, ...]]

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000

EVENT_TERMS: Final[dict[EventOp, str]] = {
    "amount": "amount_minor / minor_per_major",
    "is_weekend": f"(t // {DAY_MS} + 3) % 7 >= 5",  # 1970-01-01 was a Thursday: weekday 3
    "is_night": f"t // {HOUR_MS} % 24 <= 6",
}

# Where each series is kept, and how its running total before an edge is read there and in the tiles. The amounts' edges
# are those of the events, which are looked up first.
_COLUMN: Final[dict[Series, str]] = {
    "events": "times_ms",
    "amounts": "totals",
    "labelled": "labelled_ms",
    "frauds": "frauds_ms",
}
_FOLDED: Final[dict[Series, str]] = {
    "events": "tiles.counts[at]",
    "amounts": "tiles.amounts[at]",
    "labelled": "tiles.genuines[at] + tiles.frauds[at]",
    "frauds": "tiles.frauds[at]",
}


def event_formula(lines: Sequence[Line]) -> EventFormula:
    """The features of a view that need the event alone."""
    terms = _tuple(EVENT_TERMS[cast(EventOp, line.op)] for line in lines if not line.windows_ms)
    return cast(EventFormula, _compiled("event_features", "t, amount_minor, minor_per_major", [f"return {terms}"]))


def formula(lines: Sequence[Line], with_tiles: bool) -> Formula:
    """All features of a view; ``with_tiles`` for an entity whose oldest events are folded.

    A tile is before an edge when its newest event is.
    """
    terms: list[str] = []
    edges: set[tuple[Series, int]] = set()
    differences: dict[str, str] = {}

    def window(series: Series, line: Line, window_ms: int) -> str:
        """Name of the difference between the totals at both ends of a window."""
        end, start = line.delay_ms, line.delay_ms + window_ms
        for edge in (end, start):
            edges.add((series, edge))
        name = f"{series}_{end}_{start}"
        differences[name] = f"{series}_{end} - {series}_{start}"
        return name

    def term(line: Line, window_ms: int) -> str:
        match line.op:
            case "count":
                return window("events", line, window_ms)
            case "known_labels":
                return window("labelled", line, window_ms)
            case "amount_mean":
                count, total = window("events", line, window_ms), window("amounts", line, window_ms)
                return f"{total} / ({count} * {UNITS_PER_MAJOR}) if {count} else 0.0"
            case "fraud_rate":
                count, frauds = window("events", line, window_ms), window("frauds", line, window_ms)
                return f"{frauds} / {count} if {count} else 0.0"
            case "known_fraud_rate":
                known, frauds = window("labelled", line, window_ms), window("frauds", line, window_ms)
                return f"{frauds} / {known} if {known} else 0.0"
            case _:
                return EVENT_TERMS[line.op]

    for line in lines:
        terms += [term(line, window_ms) for window_ms in line.windows_ms or (0,)]
    # Farthest edge first, so that each look-up begins where the one before it ended.
    by_series = {series: sorted((edge for s, edge in edges if s == series), reverse=True) for series in _COLUMN}
    body = [f"{_COLUMN[series]} = state.{_COLUMN[series]}" for series, offsets in by_series.items() if offsets]
    for series, offsets in by_series.items():
        before = "0"
        for edge in offsets:
            body.append(f"{series}_{edge} = {_total(series, edge, before)}")
            before = f"{series}_{edge}"
    if with_tiles:
        body += ["tiles = state.tiles", "newest_ms = tiles.newest_ms"]
        for series, edge in sorted(edges):
            body += [f"at = bisect_right(newest_ms, t - {edge})", f"{series}_{edge} += {_FOLDED[series]}"]
    body += [f"{name} = {difference}" for name, difference in differences.items()]
    body.append(f"return {_tuple(terms)}")
    return cast(Formula, _compiled("features", "state, t, amount_minor, minor_per_major", body))


def _total(series: Series, edge: int, before: str) -> str:
    """Total before an edge where nothing is folded; ``before`` is that of an edge before it."""
    if series == "amounts":
        return f"totals[events_{edge}]"
    return f"bisect_right({_COLUMN[series]}, t - {edge}, {before})"


def _tuple(terms: Iterable[str]) -> str:
    return f"({''.join(f'{term}, ' for term in terms)})"


def _compiled(name: str, arguments: str, body: Sequence[str]) -> object:
    text = "\n    ".join((f"def {name}({arguments}):", *body))
    namespace: dict[str, object] = {"bisect_right": bisect_right}
    exec(compile(text, f"<{name} as declared>", "exec"), namespace)
    return namespace[name]
