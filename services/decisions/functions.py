"""The functions of the language: what each takes and yields, and its meaning on whole columns.

Every function yields missing (NaN, or None for texts) where an argument is missing, except ``coalesce``, whose purpose
is to say what stands in. The functions that yield true or false are given the mask of missing rows by their caller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.decisions.vocabulary import Type

Column = NDArray[Any]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
FIRST_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday counts as 0


@dataclass(frozen=True, slots=True)
class Function:
    """One function: ``takes`` names the type of each argument, the last repeated up to ``arguments_max``.

    ``keeps`` says that the result is one of the arguments as it was (its sign aside), so that a float32 stays a float32
    and literals beside it are rounded alike.
    """

    example: str
    takes: tuple[Type, ...]
    yields: Type
    apply: Callable[..., Column]
    arguments_min: int = 1
    arguments_max: int = 1
    keeps: bool = False


def texts_missing(column: Column) -> Column:
    """Return where a column of texts is null: bool, shape (n,); a fixed-width text column has no nulls."""
    if column.dtype == object:
        nulls: Column = column == None  # noqa: E711  numpy compares element by element
        return nulls
    return np.zeros(column.shape, bool)


def each_text(change: Callable[[str], Any]) -> Callable[[Column], Column]:
    """Lift a function of one text to a column of texts: object, shape (n,), null where the text is null."""

    def apply(texts: Column) -> Column:
        return np.array([None if text is None else change(text) for text in texts.tolist()], dtype=object)

    return apply


def each_pair(holds: Callable[[str, str], bool]) -> Callable[[Column, str], Column]:
    """Lift a test of a text against a literal to a column of texts: bool, shape (n,), false where null."""

    def apply(texts: Column, literal: str) -> Column:
        return np.fromiter((text is not None and holds(text, literal) for text in texts.tolist()), bool, texts.size)

    return apply


def length(texts: Column) -> Column:
    """Return the number of characters of each text: float64, shape (n,), NaN where null."""
    return np.array([np.nan if text is None else len(text) for text in texts.tolist()], dtype=np.float64)


def coalesce(first: Column, *others: Column) -> Column:
    """Return the first argument that is not missing, row by row."""
    result = np.asarray(first)
    for other in others:
        missing = texts_missing(result) if result.dtype.kind in "OUT" else np.isnan(result)
        result = np.where(missing, other, result)
    return result


def hour_utc(times_ms: Column) -> Column:
    """Return the hour of the day, 0 to 23, of times in milliseconds since 1970 in UTC."""
    return np.floor(np.asarray(times_ms, np.float64) / HOUR_MS) % 24


def weekday_utc(times_ms: Column) -> Column:
    """Return the day of the week, 0 for Monday to 6 for Sunday, of times in milliseconds since 1970 in UTC."""
    return (np.floor(np.asarray(times_ms, np.float64) / DAY_MS) + FIRST_WEEKDAY) % 7


def smallest(*numbers: Column) -> Column:
    """Return the smallest argument row by row; missing when any is missing."""
    result = numbers[0]
    for number in numbers[1:]:
        result = np.minimum(result, number)
    return result


def largest(*numbers: Column) -> Column:
    """Return the largest argument row by row; missing when any is missing."""
    result = numbers[0]
    for number in numbers[1:]:
        result = np.maximum(result, number)
    return result


_NUMBER, _TEXT, _TRUTH = Type.NUMBER, Type.TEXT, Type.TRUTH

FUNCTIONS: dict[str, Function] = {
    "abs": Function("abs(amount - 100)", (_NUMBER,), _NUMBER, np.abs, keeps=True),
    "floor": Function("floor(amount)", (_NUMBER,), _NUMBER, np.floor),
    "min": Function("min(amount, 100)", (_NUMBER,), _NUMBER, smallest, 2, 8, keeps=True),
    "max": Function("max(amount, 100)", (_NUMBER,), _NUMBER, largest, 2, 8, keeps=True),
    # UNKNOWN: takes numbers or texts, but all alike; check.py sees to it.
    "coalesce": Function("coalesce(score, 0)", (Type.UNKNOWN,), Type.UNKNOWN, coalesce, 2, 8, keeps=True),
    "hour_utc": Function("hour_utc(event_time_ms)", (_NUMBER,), _NUMBER, hour_utc),
    "weekday_utc": Function("weekday_utc(event_time_ms)", (_NUMBER,), _NUMBER, weekday_utc),
    "lower": Function("lower(country)", (_TEXT,), _TEXT, each_text(str.lower)),
    "upper": Function("upper(country)", (_TEXT,), _TEXT, each_text(str.upper)),
    "length": Function("length(device_id)", (_TEXT,), _NUMBER, length),
    "starts_with": Function('starts_with(device_id, "x-")', (_TEXT, _TEXT), _TRUTH, each_pair(str.startswith), 2, 2),
    "ends_with": Function('ends_with(device_id, "-0")', (_TEXT, _TEXT), _TRUTH, each_pair(str.endswith), 2, 2),
    "contains": Function(
        'contains(device_id, "emu")', (_TEXT, _TEXT), _TRUTH, each_pair(lambda text, part: part in text), 2, 2
    ),
}
