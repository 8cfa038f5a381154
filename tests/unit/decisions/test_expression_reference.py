"""Compiled conditions against a row-by-row interpreter that shares no code with them, over generated conditions.

The reference works on its own trees of plain tuples, in Python numbers, with None for missing and Kleene's logic
spelled out; the tree is written down as text only for the subject.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.decisions.expression import condition
from services.decisions.vocabulary import TextList, payments_vocabulary
from tests.unit.decisions.scored_events import FEATURES, columns_of

Tree = tuple[Any, ...]
Row = dict[str, Any]

SINGLES = ("customer_amount_mean_1d", "terminal_known_fraud_rate_7d", "customer_count_5m")
DOUBLES = ("amount", "score", "amount_minor", "event_time_ms")
TEXTS = ("currency", "country", "device_id", "customer_id")
WATCHED = frozenset({"FR", "c1"})
VOCABULARY = payments_vocabulary(FEATURES, {"watched": TextList("watched", None, WATCHED)})
LITERALS = st.sampled_from([0.0, 1.0, 0.1, 0.5, 2.0, 3.3, 100.1, 25.0, 1e6])
WORDS = st.sampled_from(["FR", "fr", "EUR", "c1", "x"])
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}

numbers = st.recursive(
    st.one_of(
        st.tuples(st.just("column"), st.sampled_from(SINGLES + DOUBLES)),
        st.tuples(st.just("number"), LITERALS),
    ),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "/"]), inner, inner),
        st.tuples(st.sampled_from(["min", "max", "coalesce"]), inner, inner),
        st.tuples(st.sampled_from(["negative", "abs", "floor"]), inner),
        st.tuples(st.sampled_from(["hour_utc", "weekday_utc"]), st.just(("column", "event_time_ms"))),
        st.tuples(st.just("length"), st.tuples(st.just("text_column"), st.sampled_from(TEXTS))),
    ),
    max_leaves=4,
)
texts = st.recursive(
    st.one_of(st.tuples(st.just("text_column"), st.sampled_from(TEXTS)), st.tuples(st.just("text"), WORDS)),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["lower", "upper"]), inner), st.tuples(st.just("text_coalesce"), inner, inner)
    ),
    max_leaves=2,
)
comparisons = st.one_of(
    st.tuples(st.just("compare"), numbers, st.sampled_from(list(COMPARE)), numbers),
    st.tuples(
        st.just("between"), numbers, st.sampled_from(["<", "<="]), numbers, st.sampled_from(["<", "!="]), numbers
    ),
    st.tuples(st.just("compare"), texts, st.sampled_from(["==", "!="]), texts),
    st.tuples(st.just("in_numbers"), numbers, st.lists(LITERALS, min_size=1, max_size=3), st.booleans()),
    st.tuples(st.just("in_texts"), texts, st.lists(WORDS, min_size=1, max_size=3), st.booleans()),
    st.tuples(st.just("in_watched"), texts, st.booleans()),
    st.tuples(st.sampled_from(["starts_with", "ends_with", "contains"]), texts, WORDS),
)
absences = st.tuples(
    st.just("missing"),
    st.sampled_from([("column", name) for name in (*SINGLES, "score")] + [("text_column", "country")]),
    st.booleans(),
)


def logic_over(leaves: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(st.sampled_from(["and", "or"]), inner, inner),
            st.tuples(st.sampled_from(["and", "or"]), inner, inner, inner),
            st.tuples(st.just("not"), inner),
        ),
        max_leaves=5,
    )


rows = st.fixed_dictionaries(
    {
        **{name: st.sampled_from([math.nan, 0.0, 0.1, 0.5, 1.0, 3.3, 25.0]) for name in SINGLES},
        "amount": st.sampled_from([0.0, 0.1, 25.0, 100.1]),
        "score": st.sampled_from([math.nan, 0.0, 0.1, 0.5, 1.0]),
        "amount_minor": st.sampled_from([0, 1, 2_500, 10_010]),
        "event_time_ms": st.integers(-(10**11), 2 * 10**12),
        **{name: st.sampled_from([None, "FR", "fr", "EUR", "c1"]) for name in TEXTS},
    }
)


def written(tree: Tree) -> str:
    """Write a tree in the language."""
    match tree:
        case ("column" | "text_column", name):
            return str(name)
        case ("number", value):
            return repr(value)
        case ("text", value):
            return f'"{value}"'
        case ("+" | "-" | "*" | "/" | "and" | "or", *parts):
            return "(" + f" {tree[0]} ".join(written(part) for part in parts) + ")"
        case ("negative", part):
            return f"-{written(part)}"
        case ("not", part):
            return f"not {written(part)}"
        case ("compare", left, sign, right):
            return f"({written(left)} {sign} {written(right)})"
        case ("between", a, first, b, second, c):
            return f"({written(a)} {first} {written(b)} {second} {written(c)})"
        case ("in_numbers", part, values, negated):
            return f"({written(part)} {'not ' * negated}in {values!r})"
        case ("in_texts", part, values, negated):
            return f"({written(part)} {'not ' * negated}in {values!r})"
        case ("in_watched", part, negated):
            return f"({written(part)} {'not ' * negated}in watched)"
        case ("missing", part, negated):
            return f"({written(part)} is {'not ' * negated}missing)"
        case ("starts_with" | "ends_with" | "contains", part, word):
            return f'{tree[0]}({written(part)}, "{word}")'
        case (function, *parts):
            return f"{function.removeprefix('text_')}({', '.join(written(part) for part in parts)})"
    raise AssertionError(tree)


def single(value: float) -> float:
    """Round to float32 without numpy."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def grain(tree: Tree) -> str:
    """Say of a number whether it is a literal, a float32 as it was served, or a float64."""
    match tree:
        case ("number", _) | ("negative", ("number", _)):
            return "literal"
        case ("column", name):
            return "single" if name in SINGLES else "double"
        case ("min" | "max" | "coalesce" | "abs" | "negative", *parts):
            grains = {grain(part) for part in parts} - {"literal"}
            return "single" if grains == {"single"} else "double"
    return "double"


def number(tree: Tree, row: Row, rounded: bool = False) -> float | None:
    match tree:
        case ("number", value):
            return single(value) if rounded else value
        case ("column", name):
            value = single(row[name]) if name in SINGLES else float(row[name])
            return None if math.isnan(value) else value
        case ("coalesce", left, right):
            alike = grain(tree) == "single"
            first = number(left, row, alike)
            return number(right, row, alike) if first is None else first
        case ("length", (_, name)):
            return None if row[name] is None else float(len(row[name]))
        case ("hour_utc" | "weekday_utc", _):
            moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=row["event_time_ms"])
            return float(moment.hour if tree[0] == "hour_utc" else moment.weekday())
    kind, *parts = tree
    inner = grain(tree) == "single" or (kind == "negative" and rounded)
    values = [number(part, row, inner) for part in parts]
    if None in values:
        return None
    result = computed(kind, [value for value in values if value is not None])
    return None if result is None or math.isnan(result) else result


def computed(kind: str, values: list[float]) -> float | None:
    match kind:
        case "+":
            return values[0] + values[1]
        case "-":
            return values[0] - values[1]
        case "*":
            return values[0] * values[1]
        case "/":
            return values[0] / values[1] if values[1] != 0 else None
        case "min":
            return min(values)
        case "max":
            return max(values)
        case "abs":
            return abs(values[0])
        case "negative":
            return -values[0]
        case "floor":
            return float(math.floor(values[0])) if math.isfinite(values[0]) else values[0]
    raise AssertionError(kind)


def text(tree: Tree, row: Row) -> str | None:
    match tree:
        case ("text", value):
            return str(value)
        case ("text_column", name):
            return row[name]
        case ("text_coalesce", left, right):
            first = text(left, row)
            return text(right, row) if first is None else first
        case (change, part):
            value = text(part, row)
            return None if value is None else (value.lower() if change == "lower" else value.upper())
    raise AssertionError(tree)


def is_text(tree: Tree) -> bool:
    return tree[0] in ("text", "text_column", "text_coalesce", "lower", "upper")


def compared(left: Tree, sign: str, right: Tree, row: Row) -> bool | None:
    if is_text(left):
        first, second = text(left, row), text(right, row)
        return None if first is None or second is None else COMPARE[sign](first, second)
    rounded = "single" in (grain(left), grain(right))
    a, b = number(left, row, rounded), number(right, row, rounded)
    return None if a is None or b is None else COMPARE[sign](a, b)


def every(truths: list[bool | None]) -> bool | None:
    return False if False in truths else None if None in truths else True


def some(truths: list[bool | None]) -> bool | None:
    return True if True in truths else None if None in truths else False


def truth(tree: Tree, row: Row) -> bool | None:
    match tree:
        case ("and", *parts):
            return every([truth(part, row) for part in parts])
        case ("or", *parts):
            return some([truth(part, row) for part in parts])
        case ("not", part):
            value = truth(part, row)
            return None if value is None else not value
        case ("compare", left, sign, right):
            return compared(left, sign, right, row)
        case ("between", a, first, b, second, c):
            return every([compared(a, first, b, row), compared(b, second, c, row)])
        case ("in_numbers", part, values, negated):
            found = some([compared(part, "==", ("number", value), row) for value in values])
            return None if found is None else found is not negated
        case ("in_texts", part, values, negated):
            value = text(part, row)
            return None if value is None else (value in values) is not negated
        case ("in_watched", part, negated):
            value = text(part, row)
            return None if value is None else (value in WATCHED) is not negated
        case ("missing", part, negated):
            value = text(part, row) if is_text(part) else number(part, row)
            return (value is None) is not negated
        case (test, part, word):
            value = text(part, row)
            if value is None:
                return None
            return {"starts_with": value.startswith, "ends_with": value.endswith, "contains": value.__contains__}[test](
                word
            )
    raise AssertionError(tree)


def reads_something(tree: Tree) -> bool:
    return any(name in written(tree) for name in (*SINGLES, *DOUBLES, *TEXTS))


def subject(tree: Tree, events: list[Row]) -> list[bool]:
    with np.errstate(all="ignore"):
        found = condition(written(tree), VOCABULARY).hits(columns_of(*events))
    return np.broadcast_to(found, len(events)).tolist()


def sensible(tree: Tree) -> bool:
    """Leave out what the checker refuses on purpose: nothing read, a division by 0 as written, a score above 1."""
    source = written(tree)
    return reads_something(tree) and "/ 0.0" not in source and "score" not in source


@settings(max_examples=400, deadline=None)
@given(logic_over(st.one_of(comparisons, absences)).filter(sensible), st.lists(rows, min_size=1, max_size=5))
def test_columns_agree_with_a_row_by_row_interpreter(tree: Tree, events: list[Row]) -> None:
    assert subject(tree, events) == [truth(tree, event) is True for event in events], written(tree)


@settings(max_examples=200, deadline=None)
@given(logic_over(comparisons).filter(lambda tree: sensible(tree) and "coalesce" not in written(tree)), rows, rows)
def test_what_hits_in_spite_of_a_missing_value_hits_whatever_the_value_is(tree: Tree, event: Row, other: Row) -> None:
    filled = {name: other[name] if value is None or value != value else value for name, value in event.items()}
    before, after = subject(tree, [event, filled])
    assert after or not before, written(tree)
