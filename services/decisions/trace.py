"""Why, and why not: the value of every condition that a policy looked at, for the events that somebody may ask about.

Leaves of rules, segments and limits were noted when they were evaluated; here they are read for a few rows. Lists and
thresholds are asked once more, for those rows alone. Events that stood alike share one list, written out once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.decisions.compilation import Leaf
from services.decisions.declared import Declaration, Rule, Season, Thresholds
from services.decisions.evaluate import Judged
from services.decisions.expression import Columns, Condition
from services.decisions.functions import texts_missing
from services.decisions.wording import number_text
from services.mesh.records import ConditionValue, Held

NO, YES, UNKNOWN, NOT_ASKED = range(4)
HELD: tuple[Held, ...] = ("no", "yes", "unknown")
WORDINGS_MAX = 4_096  # lists kept, up to 20 kB each where there are hundreds of conditions; seen are dozens

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Noted:
    """A leaf of a condition, asked where its season applies."""

    of: str
    leaf: Leaf
    season: Season


@dataclass(frozen=True, slots=True)
class _Asked:
    """A list or threshold: ``column`` (or score times amount) against a value; asked where segment or season apply."""

    of: str
    text: str
    column: str
    values: frozenset[str] | float
    segment: int | None = None
    season: Season = Season.ALWAYS
    scored: bool = False


class Trace:
    """The conditions of one policy."""

    def __init__(self, declared: Declaration, rules: Sequence[Rule]) -> None:
        self._noted = list(_noted(declared, rules))
        self._asked = list(_asked(declared))
        leaves = [each.leaf for each in self._noted]
        self._columns = sorted({name for leaf in leaves for name in (*leaf.texts, *leaf.numbers)})
        needs = [[name in (*leaf.texts, *leaf.numbers) for name in self._columns] for leaf in leaves]
        self._needs = np.array(needs, np.uint8).reshape(len(leaves), len(self._columns))
        self._plain = np.array([leaf.noted for leaf in leaves], bool)[:, None]
        self._wordings: dict[bytes, list[ConditionValue]] = {}

    def keys(self, judged: Judged, rows: Sequence[int]) -> list[bytes]:
        """How the conditions stood for each of ``rows``: a key for ``values``."""
        index = np.asarray(rows, np.intp)
        columns, (bootstrap, fallback) = judged.columns, judged.seasons
        applies = {Season.ALWAYS: None, Season.BOOTSTRAP: bootstrap[index], Season.FALLBACK: fallback[index]}
        part = {name: np.asarray(columns[name])[index] for name in self._columns if name in columns}
        held = np.empty((len(self._noted) + len(self._asked), len(index)), np.uint8)
        found = held[: len(self._noted)]
        asked = np.array([each.leaf in columns for each in self._noted], bool)
        for place, each in enumerate(self._noted):
            if asked[place]:
                values = columns[each.leaf]
                found[place] = values[index] if getattr(values, "ndim", 0) else values
        missing = self._missing(part)
        if missing is not None:
            unknown = (found == 0) & missing
            found ^= ~self._plain  # noted where it certainly does not hold: the other way round
            found[unknown] = UNKNOWN
        else:
            found ^= ~self._plain
        found[~asked] = NOT_ASKED
        with np.errstate(all="ignore"):
            for place, each in enumerate(self._noted):
                if each.leaf.alone and asked[place]:
                    rest = {name: np.asarray(columns[name])[index] for name in columns if isinstance(name, str)}
                    yes, no = (np.broadcast_to(truth(rest), len(index)) for truth in each.leaf.alone)
                    found[place] = np.where(yes, YES, np.where(no, NO, UNKNOWN))
                if (where := applies[each.season]) is not None:
                    found[place, ~where] = NOT_ASKED
            scored, segment = ~bootstrap[index], judged.segment[index]
            for place, question in enumerate(self._asked, len(self._noted)):
                held[place] = _answer(question, columns, index)
                where = applies[question.season]
                if where is not None:
                    held[place, ~where] = NOT_ASKED
                if question.scored:
                    held[place, ~scored] = NOT_ASKED
                if question.segment is not None:
                    held[place, segment != question.segment] = NOT_ASKED
        flat = np.ascontiguousarray(held.T).tobytes()
        size = len(held)
        return (
            [flat[start : start + size] for start in range(0, size * len(index), size)] if size else [b""] * len(index)
        )

    def values(self, key: bytes) -> list[ConditionValue]:
        """The conditions in the policy's order; what was not asked is left out."""
        wording = self._wordings.get(key)
        if wording is None:
            if len(self._wordings) > WORDINGS_MAX:
                self._wordings.clear()
            names = [(each.of, each.leaf.text) for each in self._noted] + [(e.of, e.text) for e in self._asked]
            wording = self._wordings[key] = [
                {"of": of, "text": text, "held": HELD[value]}
                for (of, text), value in zip(names, key, strict=True)
                if value != NOT_ASKED
            ]
        return wording

    def _missing(self, part: Columns) -> NDArray[np.bool_] | None:
        """Where a leaf lacks a column that it needs: bool, shape (leaves, rows); None where nothing lacks."""
        if not self._columns:
            return None
        masks = [
            texts_missing(column) if column.dtype == object else column != column  # NaN alone is not itself
            for column in (part[name] for name in self._columns)
        ]
        missing = np.array(masks, np.uint8)
        return (self._needs @ missing) > 0 if missing.any() else None


def _answer(question: _Asked, columns: Columns, index: NDArray[np.intp]) -> NDArray[np.uint8]:
    """NO, YES or UNKNOWN for each of the rows."""
    if isinstance(question.values, frozenset):
        texts = columns[question.column][index].tolist()
        return np.array([UNKNOWN if text is None else text in question.values for text in texts], np.uint8)
    values = columns["score"][index]
    if question.column == "loss":
        values = values * columns["amount"][index]
    return np.where(np.isnan(values), UNKNOWN, values >= question.values).astype(np.uint8)


def _noted(declared: Declaration, rules: Sequence[Rule]) -> Iterator[_Noted]:
    for rule in rules:
        yield from _leaves(f"rule {rule.name}", rule.condition, rule.season)
    for segment in declared.segments:
        if segment.when:
            yield from _leaves(f"segment {_short(segment)}", segment.when)
    for name in ("high_stakes", "low_confidence"):
        limit = getattr(declared.review, name)
        if limit:
            yield from _leaves(f"limit {name}", limit.when)


def _short(segment: Thresholds) -> str:
    """`segment high_value` is high_value, `the default segment` default."""
    return segment.segment.removeprefix("segment ").removeprefix("the ").removesuffix(" segment")


def _leaves(of: str, condition: Condition, season: Season = Season.ALWAYS) -> Iterator[_Noted]:
    return (_Noted(of, leaf, season) for leaf in condition.leaves)


def _asked(declared: Declaration) -> Iterator[_Asked]:
    for acting in declared.lists:
        if acting.values.values:
            name = acting.values.name
            yield _Asked(f"list {name}", f"{acting.field} in {name}", acting.field, acting.values.values)
    for index, segment in enumerate(declared.segments):
        yield from _thresholds(segment, _short(segment), index, Season.ALWAYS)
    yield from _thresholds(declared.fallback, "fallback", None, Season.FALLBACK)


def _thresholds(thresholds: Thresholds, name: str, segment: int | None, season: Season) -> Iterator[_Asked]:
    kinds: list[tuple[str, str, Any]] = [("score", "score", thresholds.cuts)]
    if thresholds.loss:
        kinds.append(("loss", "score * amount", thresholds.loss.cuts))
    for column, words, cuts in kinds:
        for action in ("challenge", "review", "decline"):
            cut = getattr(cuts, action)
            if cut != float("inf"):
                text = f"{words} >= {number_text(cut)}"
                yield _Asked(f"segment {name}", text, column, cut, segment, season, scored=True)
