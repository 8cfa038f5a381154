"""Why, and why not: the value of every condition that a policy looked at, for the events that somebody may ask about.

Leaves of rules, segments and limits were noted when they were evaluated; here they are read for a few rows. Lists and
thresholds are asked once more, for those rows alone. Events that stood alike share one list, written out once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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

_FALLBACK = -1


@dataclass(frozen=True, slots=True)
class _Noted:
    """A leaf of a condition, asked where its season applies."""

    of: str
    leaf: Leaf
    season: Season


@dataclass(frozen=True, slots=True)
class _Cut:
    """A threshold on the score, or on score times amount; asked where its segment or the fallback section applies."""

    of: str
    text: str
    value: float
    on_loss: bool
    segment: int  # _FALLBACK: the fallback section's


class Trace:
    """The conditions of one policy."""

    def __init__(self, declared: Declaration, rules: Sequence[Rule]) -> None:
        self._noted = list(_noted(declared, rules))
        self._lists = [acting for acting in declared.lists if acting.values.values]
        self._cuts = list(_cuts(declared))
        self._cut_values = np.array([cut.value for cut in self._cuts])[:, None]
        self._cut_segments = np.array([cut.segment for cut in self._cuts], np.intp)[:, None]
        self._cut_on_loss = np.array([cut.on_loss for cut in self._cuts], bool)[:, None]
        self._size = len(self._noted) + len(self._lists) + len(self._cuts)
        leaves = [each.leaf for each in self._noted]
        self._columns = sorted({name for leaf in leaves for name in (*leaf.texts, *leaf.numbers)})
        needs = [[name in (*leaf.texts, *leaf.numbers) for name in self._columns] for leaf in leaves]
        # float32: this product is asked of the fastest multiplication there is; its entries are small whole numbers.
        self._needs = np.array(needs, np.float32).reshape(len(leaves), len(self._columns))
        self._turned = np.array([not leaf.noted for leaf in leaves], bool)[:, None]
        self._of_season = {
            season: np.array([each.season is season for each in self._noted], bool)
            for season in (Season.BOOTSTRAP, Season.FALLBACK)
        }
        self._alone = [(place, leaf.alone) for place, leaf in enumerate(leaves) if leaf.alone]
        self._alone_columns = sorted({name for leaf in leaves if leaf.alone for name in leaf.reads})
        self._wordings: dict[bytes, list[ConditionValue]] = {}

    def keys(self, judged: Judged, rows: Sequence[int]) -> list[bytes]:
        """How the conditions stood for each of ``rows``: a key for ``values``."""
        index = np.asarray(rows, np.intp)
        held = np.empty((self._size, len(index)), np.uint8)
        if not self._size:
            return [b""] * len(index)
        leaves, lists = len(self._noted), len(self._noted) + len(self._lists)
        with np.errstate(all="ignore"):
            self._read(judged, index, held[:leaves])
            for season, applies in zip((Season.BOOTSTRAP, Season.FALLBACK), judged.seasons, strict=True):
                if (own := self._of_season[season]).any():
                    held[:leaves][np.ix_(own, ~applies[index])] = NOT_ASKED
            for place, acting in enumerate(self._lists, leaves):
                texts, known = judged.columns[acting.field][index].tolist(), acting.values.values
                held[place] = [UNKNOWN if text is None else text in known for text in texts]
            if self._cuts:
                held[lists:] = self._thresholds(judged, index)
        flat, size = np.ascontiguousarray(held.T).tobytes(), self._size
        return [flat[start : start + size] for start in range(0, size * len(index), size)]

    def _thresholds(self, judged: Judged, index: NDArray[np.intp]) -> NDArray[np.uint8]:
        """How the score stands to each threshold: uint8, shape (cuts, rows)."""
        bootstrap, fallback = (applies[index] for applies in judged.seasons)
        score = judged.columns["score"][index]
        values = score[None, :]
        if self._cut_on_loss.any():
            values = np.where(self._cut_on_loss, score * judged.columns["amount"][index], score)
        found = np.where(np.isnan(values), UNKNOWN, values >= self._cut_values).astype(np.uint8)
        asked = (self._cut_segments == judged.segment[index]) | ((self._cut_segments == _FALLBACK) & fallback)
        found[~(asked & ~bootstrap)] = NOT_ASKED
        return found

    def _read(self, judged: Judged, index: NDArray[np.intp], held: NDArray[np.uint8]) -> None:
        """What the leaves were noted as, for the rows in ``index``, into ``held``: uint8, shape (leaves, rows)."""
        columns, count = judged.columns, len(judged.codes)
        none = np.zeros(count, bool)  # for leaves of seasons that no row is in; they are not asked
        noted = [columns.get(each.leaf, none) for each in self._noted]
        if not noted:
            return
        if any(getattr(values, "shape", ()) != (count,) for values in noted):
            noted = [np.broadcast_to(values, count) for values in noted]
        held[:] = np.array(noted)[:, index]
        missing = self._missing({name: columns[name][index] for name in self._columns})
        unknown = None if missing is None else (held == NO) & missing
        held ^= self._turned  # noted where it certainly does not hold: the other way round
        if unknown is not None:
            held[unknown] = UNKNOWN
        rest = {name: columns[name][index] for name in self._alone_columns}
        for place, (true, false) in self._alone:
            yes, no = true(rest), false(rest)
            held[place] = np.where(yes, YES, np.where(no, NO, UNKNOWN))

    def values(self, key: bytes) -> list[ConditionValue]:
        """The conditions in the policy's order; what was not asked is left out."""
        wording = self._wordings.get(key)
        if wording is None:
            if len(self._wordings) > WORDINGS_MAX:
                self._wordings.clear()
            names = [(each.of, each.leaf.text) for each in self._noted]
            names += [(f"list {own.values.name}", f"{own.field} in {own.values.name}") for own in self._lists]
            names += [(cut.of, cut.text) for cut in self._cuts]
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
        missing = np.array(masks, np.float32)
        return (self._needs @ missing) > 0 if missing.any() else None


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


def _cuts(declared: Declaration) -> Iterator[_Cut]:
    for index, segment in enumerate(declared.segments):
        yield from _cuts_of(segment, _short(segment), index)
    yield from _cuts_of(declared.fallback, "fallback", _FALLBACK)


def _cuts_of(thresholds: Thresholds, name: str, segment: int) -> Iterator[_Cut]:
    kinds = [("score", False, thresholds.cuts)]
    if thresholds.loss:
        kinds.append(("score * amount", True, thresholds.loss.cuts))
    for words, on_loss, cuts in kinds:
        for value in (cuts.challenge, cuts.review, cuts.decline):
            if value != math.inf:
                yield _Cut(f"segment {name}", f"{words} >= {number_text(value)}", value, on_loss, segment)
