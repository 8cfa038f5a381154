"""Apply a policy to a batch: whole columns at a time, and one small resolution per distinct pattern of hits.

Every list, rule and threshold is evaluated as numpy columns. What hit for one event is then packed into a few bytes,
and events with the same bytes share one outcome, resolved once and kept: a batch of a thousand events has a handful of
patterns, so the cost per event hardly depends on how many rules there are. There is no second, scalar path for single
events: a batch of one costs what fifty rules cost in numpy calls (about 0.2 ms), which is small beside its own
network hop, and one path is one truth.

What outranks what is in ``precedence.py``; what the log's order decides (fuses, the review budget) in ``flow.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.decisions.chance import drawn
from services.decisions.declared import ActingList, Cuts, Declaration, Rule, Season, Thresholds
from services.decisions.expression import Columns, Condition
from services.decisions.precedence import Outcome, Pattern, resolve
from services.decisions.verdict import Verdict
from services.decisions.vocabulary import FEATURE_STATUSES

BOOTSTRAP_MODEL = "bootstrap"  # model_version of events that no model has scored
ROWS_MAX = (
    16_384  # rows evaluated at once: 100 rules' hits are 1.6 MB, near a core's cache; measured best of 4 k to 64 k
)
PATTERNS_MAX = 4_096  # outcomes kept, about 1 kB each; a policy shows a few hundred patterns in practice

STATUS_CODES = {status: code for code, status in enumerate(FEATURE_STATUSES)}
HEAD_BYTES = 6  # of a pattern, before one bit a list and rule
BOOTSTRAP, UNSCORED, HIGH_STAKES, LOW_CONFIDENCE = 4, 8, 16, 32  # bits beside the two of the status

Watch: TypeAlias = Callable[[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]], NDArray[np.bool_] | None]
"""Tells which hits are of blown fuses, from the hits of the rules that have one (bool, shape (fuses, n)) and of the
events before the first model and without trusted features (both bool, shape (n,)); None where none is."""


@dataclass(slots=True)
class Judged:
    """What a policy says about n events, before the log's order has its say.

    ``table`` holds outcomes and ``codes`` (intp, shape (n,)) the place of each row's own. ``swaps`` replaces verdicts
    by row, where chance did. ``hits`` says which rules hit which rows (bool, shape (rules, n)). ``columns`` are those
    given, with the leaves of conditions noted in them, and ``segment`` (uint8, shape (n,)) and
    ``seasons`` (before the first model, without trusted features) say what applied.
    """

    codes: NDArray[np.intp]
    table: Sequence[Outcome]
    columns: dict[Any, Any]
    hits: NDArray[np.bool_]
    segment: NDArray[np.uint8]
    seasons: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    swaps: dict[int, Verdict] = field(default_factory=dict)

    def outcomes(self) -> list[Outcome]:
        """One a row, the same object for rows of one pattern."""
        table = self.table
        return [table[code] for code in self.codes.tolist()]

    def outcome(self, row: int) -> Outcome:
        """Of one row."""
        return self.table[int(self.codes[row])]

    def rows_where(self, holds: Callable[[Outcome], bool]) -> list[int]:
        """Rows whose outcome is such, asked once a row or once a pattern, whichever are fewer."""
        if len(self.codes) <= len(self.table):
            return [row for row, code in enumerate(self.codes.tolist()) if holds(self.table[code])]
        such = np.array([holds(outcome) for outcome in self.table], bool)
        rows: list[int] = np.flatnonzero(such[self.codes]).tolist()
        return rows

    def verdicts(self) -> list[Verdict]:
        """One a row."""
        found = [outcome.verdict for outcome in self.outcomes()]
        for row, verdict in self.swaps.items():
            found[row] = verdict
        return found


class Evaluator:
    """A declared policy at work. Holds no state but outcomes already resolved."""

    def __init__(self, declared: Declaration) -> None:
        self._declared = declared
        self._codes: dict[bytes, int] = {}
        self._table: list[Outcome] = []
        self._seasons = {season: [rule for rule in declared.rules if rule.season is season] for season in Season}
        # Patterns hold hits in this order; the file's order is kept within each season.
        self.rules: Sequence[Rule] = [rule for season in Season for rule in self._seasons[season]]
        self.fused_rules = [place for place, rule in enumerate(self.rules) if rule.expected_rate is not None]
        self._fallback_codes = np.array([status in declared.fallback_statuses for status in FEATURE_STATUSES])
        self._cuts = _cuts([each.cuts for each in declared.segments])
        self._fallback_cuts = _cuts([declared.fallback.cuts])[0]
        self._has_losses = any(each.loss for each in (*declared.segments, declared.fallback))

    def judge(self, columns: Columns, watch: Watch | None = None) -> Judged:
        """Judge all rows at once."""
        rows = len(columns["score"])
        noted: dict[Any, Any] = dict(columns)
        with np.errstate(all="ignore"):  # division by zero and overflow have declared meanings
            packed, hits, seasons = self._packed(noted, rows)
            hits = hits[len(self._declared.lists) :]
            fused = watch(hits[self.fused_rules], *seasons) if watch else None
            if fused is not None:
                packed = np.concatenate([packed, np.packbits(fused, axis=0)])
        keys: list[bytes] = np.ascontiguousarray(packed.T).view(f"V{len(packed)}").ravel().tolist()
        if len(self._codes) > PATTERNS_MAX:
            self._codes, self._table = {}, []  # others may still hold the table
        known = self._codes
        for key in set(keys).difference(known):
            known[key] = len(self._table)
            self._table.append(resolve(self._declared, self.rules, self._unpacked(key)))
        codes = np.fromiter(map(known.__getitem__, keys), np.intp, rows)
        judged = Judged(codes, self._table, noted, hits, packed[0], seasons)
        if self._declared.passthrough.share or self._declared.control.share:
            self._draw(judged)
        return judged

    def _packed(
        self, columns: dict[Any, Any], rows: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_], tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """Pack what each event hit into bytes: segment, levels, circumstances, then one bit a list and rule."""
        status = np.fromiter(map(STATUS_CODES.__getitem__, columns["feature_status"].tolist()), np.uint8, rows)
        bootstrap = np.asarray(columns["model_version"] == BOOTSTRAP_MODEL, bool)
        score = columns["score"]
        if any_bootstrap := bool(bootstrap.any()):  # a number that no model gave is no score
            score = columns["score"] = np.where(bootstrap, np.nan, score)
        fallback = self._fallback_codes[status]
        any_fallback = bool(fallback.any())

        def held(condition: Condition) -> Any:
            return condition.noting(columns)

        hits = np.zeros((len(self._declared.lists) + len(self.rules), rows), bool)
        row = 0
        for acting in self._declared.lists:
            if acting.values.values:
                hits[row] = listed(acting, columns, rows)
            row += 1
        for season, applies, needed in (
            (Season.ALWAYS, None, True),
            (Season.BOOTSTRAP, bootstrap, any_bootstrap),
            (Season.FALLBACK, fallback, any_fallback),
        ):
            for rule in self._seasons[season]:
                if needed:
                    hits[row] = held(rule.condition) if applies is None else held(rule.condition) & applies
                row += 1

        packed = np.empty((HEAD_BYTES + (len(hits) + 7) // 8, rows), np.uint8)
        packed[0] = segment = self._segments(columns, rows, held)
        packed[1] = self._levels(score, segment)
        packed[2] = _levels(score, self._fallback_cuts) * fallback if any_fallback else 0
        packed[3] = packed[4] = 0
        if self._has_losses:
            packed[3], packed[4] = self._loss_levels(columns, segment, fallback)
        unscored = np.isnan(score) & ~bootstrap
        packed[5] = status | (bootstrap * np.uint8(BOOTSTRAP)) | (unscored * np.uint8(UNSCORED))
        review = self._declared.review
        for bit, limit in ((HIGH_STAKES, review.high_stakes), (LOW_CONFIDENCE, review.low_confidence)):
            if limit is not None:
                packed[5] |= np.broadcast_to(held(limit.when), rows) * np.uint8(bit)
        packed[HEAD_BYTES:] = np.packbits(hits, axis=0)
        return packed, hits, (bootstrap, fallback)

    def _unpacked(self, key: bytes) -> Pattern:
        count = len(self._declared.lists) + len(self.rules)
        fuses_at = HEAD_BYTES + (count + 7) // 8
        fused = _bits(key, fuses_at, len(self.fused_rules)) if len(key) > fuses_at else ()
        return Pattern(
            hits=_bits(key, HEAD_BYTES, count),
            fused=frozenset(place for place, blown in zip(self.fused_rules, fused, strict=False) if blown),
            segment=key[0],
            level=key[1],
            loss_level=key[3],
            fallback_level=key[2],
            fallback_loss_level=key[4],
            status=FEATURE_STATUSES[key[5] & 3],
            bootstrap=bool(key[5] & BOOTSTRAP),
            score_missing=bool(key[5] & UNSCORED),
            high_stakes=bool(key[5] & HIGH_STAKES),
            low_confidence=bool(key[5] & LOW_CONFIDENCE),
        )

    def _segments(self, columns: Columns, rows: int, held: Callable[[Condition], Any]) -> NDArray[np.uint8]:
        """Return for each row the index of the first segment whose condition hits; the default is the last."""
        *named, _ = self._declared.segments
        segment = np.full(rows, len(named), np.uint8)
        for index in reversed(range(len(named))):
            when = named[index].when
            assert when is not None  # only the default has none
            segment[np.broadcast_to(held(when), rows)] = index
        return segment

    def _levels(self, score: NDArray[Any], segment: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if len(self._cuts) == 1:
            return _levels(score, self._cuts[0])
        return _levels(score, self._cuts[segment].T)

    def _loss_levels(
        self, columns: Columns, segment: NDArray[np.uint8], fallback: NDArray[np.bool_]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the levels that the loss to be expected calls for, by segment and by the fallback section."""
        loss = columns["score"] * columns["amount"]
        levels = np.zeros(len(segment), np.uint8)
        for index, each in enumerate(self._declared.segments):
            if each.loss is not None:
                levels += _loss_level(each, loss, columns["currency"]) * (segment == index)
        if self._declared.fallback.loss is None:
            return levels, np.zeros(len(segment), np.uint8)
        return levels, _loss_level(self._declared.fallback, loss, columns["currency"]) * fallback

    def _draw(self, judged: Judged) -> None:
        """Let chance approve a share of what it may, chosen by hashes: the same in every replay."""
        passthrough, control = self._declared.passthrough, self._declared.control
        rows = len(judged.codes)
        candidates = judged.rows_where(lambda outcome: bool(outcome.passed or outcome.held_out))
        if not candidates:
            return
        may_pass, may_hold = [np.ones(rows, bool), np.ones(rows, bool)]
        with np.errstate(all="ignore"):
            if passthrough.when is not None:
                may_pass &= passthrough.when.hits(judged.columns)
            if control.when is not None:
                may_hold &= control.when.hits(judged.columns)
        customers, events = judged.columns["customer_id"], judged.columns["event_id"]
        for row in candidates:
            outcome = judged.outcome(row)
            customer, event = str(customers[row]), str(events[row])
            held_out = outcome.held_out if may_hold[row] else None
            passed = outcome.passed if may_pass[row] else None
            held_share = control.share if held_out else 0.0
            let_share = held_share + (1.0 - held_share) * (passthrough.share if passed else 0.0)
            if held_out and drawn(control.salt, customer, "") < control.share:
                judged.swaps[row] = replace(held_out, propensity=let_share)
            elif passed and drawn(passthrough.salt, customer, event) < passthrough.share:
                judged.swaps[row] = replace(passed, propensity=let_share)
            elif let_share:
                judged.swaps[row] = replace(outcome.verdict, propensity=1.0 - let_share)


def listed(acting: ActingList, columns: Columns, rows: int) -> NDArray[np.bool_]:
    """Return whose value is on the list: bool, shape (rows,); null is on no list."""
    return np.fromiter(map(acting.values.values.__contains__, columns[acting.field].tolist()), bool, rows)


def _cuts(cuts: Sequence[Cuts]) -> NDArray[np.float64]:
    """Return thresholds as float64, shape (segments, 3): challenge, review, decline."""
    return np.array([(each.challenge, each.review, each.decline) for each in cuts], np.float64)


def _levels(score: NDArray[Any], cuts: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the strictest level whose threshold the score reaches, 0 for none or no score: uint8, shape (n,)."""
    levels = np.zeros(score.shape, np.uint8)
    for level in (1, 2, 3):
        cut = cuts[level - 1]
        if cut.ndim or cut < math.inf:
            levels[score >= cut] = level
    return levels


def _loss_level(thresholds: Thresholds, loss: NDArray[Any], currency: NDArray[Any]) -> NDArray[np.uint8]:
    """The same for the loss to be expected; 0 for payments in other currencies."""
    assert thresholds.loss is not None
    known = np.fromiter(map(thresholds.loss.currencies.__contains__, currency.tolist()), bool, len(loss))
    return _levels(np.where(known, loss, np.nan), _cuts([thresholds.loss.cuts])[0])


def _bits(key: bytes, at: int, count: int) -> tuple[bool, ...]:
    if not count:
        return ()
    bits = np.unpackbits(np.frombuffer(key, np.uint8, offset=at, count=(count + 7) // 8), count=count)
    return tuple(bits.astype(bool).tolist())
