"""How models compare on the same labelled events, block by block of event time. Pure bookkeeping, bounded.

A block is some hours of events. It is judged once, when every event in it has reached the one fixed age at which
labels are compared (the label delay): not earlier, because the first labels are not a fair sample, and not again. Each
event counts with the label that it had at that age; an event without one is left out, never taken for genuine.

Two models are compared on events that neither of them can have learned from: those after its cut-off, and of the time
before, back to one label delay, those of the customers that no training may look at so early (``holdout``). A model
that did not score an event at the time is asked now: a score depends on the recorded vector and the model alone. So
the evidence on a new challenger begins with labels that mature on the day after its training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from services.retraining import betting
from services.retraining.holdout import is_held_out
from services.retraining.labels import Labels
from services.retraining.measures import average_precision

HOUR_MS = 3_600_000
# Small enough that a clear difference shows in two days (it takes seven blocks to win all bets), large enough for an
# order of scores: about 20 frauds at 60,000 events a week with 1% fraud.
BLOCK_MS = 6 * HOUR_MS
# An observation at the very age of the label delay is on its way while the clock passes it.
AGE_SLACK_MS = HOUR_MS
FRAUDS_MIN = 3  # a block with fewer has no order of scores to speak of
# More rows than this say little more; a day is thinned by identity, the same events for all models.
BLOCK_ROWS_MAX = 20_000
BLOCKS_KEPT_MAX = 240  # sixty days
# Amounts in minor units: below, up to, above. Fraud on large amounts is another trade than on small ones.
SEGMENT_EDGES = (5_000, 20_000)
SEGMENTS = ("small", "middle", "large")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One comparison of model a with model b. Weighted where decisions had a propensity below 1."""

    start_ms: int
    rows: int
    frauds: int
    precision_a: float  # average precision
    precision_b: float
    skill_a: float  # 1 - Brier / Brier of the fraud share itself; 1 is perfect, 0 knows nothing
    skill_b: float
    expected_a: float  # sum of probabilities
    expected_b: float
    segment_frauds: tuple[int, ...]
    segment_gain: tuple[float, ...]  # skill of b - skill of a


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Model b against model a. ``log_wealth`` speaks against "b is no better", the other against "b is no worse"."""

    blocks: int = 0
    rows: int = 0
    frauds: int = 0
    log_wealth: float = 0.0
    log_wealth_worse: float = 0.0
    precision_a: float = float("nan")
    precision_b: float = float("nan")
    skill_a: float = float("nan")
    skill_b: float = float("nan")
    expected_per_fraud_a: float = float("nan")
    expected_per_fraud_b: float = float("nan")
    segment_frauds: tuple[int, ...] = ()
    segment_gain: tuple[float, ...] = ()
    first_ms: int = 0
    last_ms: int = 0


class Judged(Protocol):
    """A model in play."""

    @property
    def cut_off_ms(self) -> int:
        """No label observed later was used to make it."""

    def score(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Probabilities of rows, float32, shape (n, f): float64, shape (n,)."""


class _Row(NamedTuple):
    """One labelled event."""

    version: int
    fraud: bool
    weight: float
    segment: int
    event_time_ms: int
    is_held_out: bool
    models: tuple[str, ...]  # that scored it at the time
    scores: tuple[float, ...]
    vector: bytes


@dataclass(slots=True)
class _Open:
    """Rows of a block that is not judged yet, by identity."""

    rows: dict[int, _Row] = field(default_factory=dict)
    thinned: int = 1  # one identity in so many is kept


class Evidence:
    """All blocks. ``take`` in any order; ``close`` moves the clock."""

    def __init__(self, label_delay_ms: int) -> None:
        self._label_delay_ms = label_delay_ms
        self._open: dict[int, _Open] = {}
        self._judged_to = -1  # number of the newest judged block
        self._blocks: dict[tuple[str, str], list[Block]] = {}
        self.too_late = 0  # labels of blocks that were judged already

    def take(self, labels: Labels) -> None:
        """Add labelled events; one that is known already is replaced by a higher label version."""
        in_time = labels.age_ms <= self._label_delay_ms + AGE_SLACK_MS
        number = labels.event_time_ms // BLOCK_MS
        self.too_late += int((~in_time | (number <= self._judged_to)).sum())
        segment = np.searchsorted(SEGMENT_EDGES, labels.amount_minor, side="right")
        held_out = is_held_out(labels.bucket)
        beside: dict[int, list[tuple[str, float]]] = {}
        for row, model, score in zip(
            labels.beside_row.tolist(), labels.beside_model.tolist(), labels.beside_score.tolist(), strict=True
        ):
            beside.setdefault(row, []).append((labels.beside_models[model], score))
        for row in np.flatnonzero(in_time & (number > self._judged_to) & labels.exact).tolist():
            block = self._open.setdefault(int(number[row]), _Open())
            identity, version = int(labels.identity[row]), int(labels.version[row])
            if identity % block.thinned:
                continue
            known = block.rows.get(identity)
            if known is not None and known.version >= version:
                continue
            scored = [(labels.models[int(labels.model[row])], float(labels.score[row])), *beside.get(row, ())]
            block.rows[identity] = _Row(
                version=version,
                fraud=bool(labels.fraud[row]),
                weight=float(labels.weight[row]),
                segment=int(segment[row]),
                event_time_ms=int(labels.event_time_ms[row]),
                is_held_out=bool(held_out[row]),
                models=tuple(name for name, _ in scored),
                scores=tuple(score for _, score in scored),
                vector=labels.rows[row].tobytes(),
            )
            if len(block.rows) > BLOCK_ROWS_MAX:
                block.thinned *= 2
                block.rows = {key: row for key, row in block.rows.items() if not key % block.thinned}

    def close(self, clock_ms: int, models: Mapping[str, Judged]) -> int:
        """Judge every block whose events have all reached the label delay at ``clock_ms``; how many were.

        ``models``: those in play, by name; others are compared no more.
        """
        last = (clock_ms - self._label_delay_ms - AGE_SLACK_MS) // BLOCK_MS - 1
        due = sorted(number for number in self._open if number <= last)
        for number in due:
            self._judge(number * BLOCK_MS, list(self._open.pop(number).rows.values()), models)
        self._judged_to = max(self._judged_to, last)
        return len(due)

    def standing(self, a: str, b: str, since_ms: int) -> Standing:
        """Model ``b`` against model ``a`` on blocks that begin at ``since_ms`` or later."""
        if a < b:
            blocks = self._blocks.get((a, b), [])
        else:
            blocks = [_turned(block) for block in self._blocks.get((b, a), [])]
        return _standing([block for block in blocks if block.start_ms >= since_ms])

    def keep(self, models: set[str]) -> None:
        """Forget pairs of which one model is not among ``models``."""
        self._blocks = {pair: blocks for pair, blocks in self._blocks.items() if models.issuperset(pair)}

    @property
    def open_rows(self) -> int:
        """Rows waiting to be judged."""
        return sum(len(block.rows) for block in self._open.values())

    def _judge(self, start_ms: int, rows: list[_Row], models: Mapping[str, Judged]) -> None:
        if len(models) < 2:
            return
        fraud = np.array([row.fraud for row in rows], dtype=np.bool_)
        weight = np.array([row.weight for row in rows])
        segment = np.array([row.segment for row in rows])
        scores = {name: self._scores(name, model, rows) for name, model in models.items()}
        for a, b in combinations(sorted(scores), 2):
            both = ~np.isnan(scores[a]) & ~np.isnan(scores[b])
            if int(fraud[both].sum()) < FRAUDS_MIN or bool(fraud[both].all()):
                continue
            compared = compare(start_ms, scores[a][both], scores[b][both], fraud[both], weight[both], segment[both])
            self._blocks.setdefault((a, b), []).append(compared)
            del self._blocks[(a, b)][:-BLOCKS_KEPT_MAX]

    def _scores(self, name: str, model: Judged, rows: list[_Row]) -> npt.NDArray[np.float64]:
        """What the model says of each row that it cannot have learned from, NaN for the others: shape (n,)."""
        after_ms = model.cut_off_ms
        unseen = np.array(
            [
                row.event_time_ms > after_ms
                or (row.is_held_out and row.event_time_ms > after_ms - self._label_delay_ms)
                for row in rows
            ],
            dtype=np.bool_,
        )
        recorded = np.array(
            [row.scores[row.models.index(name)] if name in row.models else np.nan for row in rows], dtype=np.float64
        )
        missing = np.flatnonzero(unseen & np.isnan(recorded))
        if len(missing):
            vectors = b"".join([rows[n].vector for n in missing.tolist()])
            recorded[missing] = model.score(np.frombuffer(vectors, dtype=np.float32).reshape(len(missing), -1))
        recorded[~unseen] = np.nan
        return recorded


def compare(
    start_ms: int,
    scores_a: npt.NDArray[np.float64],
    scores_b: npt.NDArray[np.float64],
    fraud: npt.NDArray[np.bool_],
    weight: npt.NDArray[np.float64],
    segment: npt.NDArray[np.int64],
) -> Block:
    """Both models on the same rows, arrays of shape (n,), both classes present."""
    share = float((weight * fraud).sum() / weight.sum())
    loss_a, loss_b = weight * (scores_a - fraud) ** 2, weight * (scores_b - fraud) ** 2
    nothing = share * (1 - share)
    # Per fraud, not per row: what a segment without fraud gains or loses is next to nothing.
    frauds_weight = float((weight * fraud).sum())
    inside = [segment == number for number in range(len(SEGMENTS))]
    return Block(
        start_ms=start_ms,
        rows=len(fraud),
        frauds=int(fraud.sum()),
        precision_a=average_precision(scores_a, fraud, weight),
        precision_b=average_precision(scores_b, fraud, weight),
        skill_a=1 - float(loss_a.sum() / weight.sum()) / nothing,
        skill_b=1 - float(loss_b.sum() / weight.sum()) / nothing,
        expected_a=float((weight * scores_a).sum()) / frauds_weight * int(fraud.sum()),
        expected_b=float((weight * scores_b).sum()) / frauds_weight * int(fraud.sum()),
        segment_frauds=tuple(int(fraud[rows].sum()) for rows in inside),
        segment_gain=tuple(
            float((loss_a - loss_b)[rows].sum() / max(float((weight * fraud)[rows].sum()), 1.0)) for rows in inside
        ),
    )


def differences(blocks: list[Block]) -> npt.NDArray[np.float64]:
    """What is bet on for each block: half average precision, half probability; in [-1, 1], shape (n,)."""
    precision = betting.scaled([block.precision_b - block.precision_a for block in blocks])
    skill = betting.scaled([block.skill_b - block.skill_a for block in blocks])
    halves: npt.NDArray[np.float64] = (precision + skill) / 2
    return halves


def _standing(blocks: list[Block]) -> Standing:
    if not blocks:
        return Standing()
    bets = differences(blocks)
    frauds = sum(block.frauds for block in blocks)
    by_fraud: Mapping[str, float] = {
        name: sum(getattr(block, name) * block.frauds for block in blocks) / frauds
        for name in ("precision_a", "precision_b", "skill_a", "skill_b")
    }
    segment_frauds = tuple(sum(block.segment_frauds[n] for block in blocks) for n in range(len(SEGMENTS)))
    return Standing(
        blocks=len(blocks),
        rows=sum(block.rows for block in blocks),
        frauds=frauds,
        log_wealth=float(betting.log_wealth(bets)[-1]),
        log_wealth_worse=float(betting.log_wealth(-bets)[-1]),
        precision_a=by_fraud["precision_a"],
        precision_b=by_fraud["precision_b"],
        skill_a=by_fraud["skill_a"],
        skill_b=by_fraud["skill_b"],
        expected_per_fraud_a=sum(block.expected_a for block in blocks) / frauds,
        expected_per_fraud_b=sum(block.expected_b for block in blocks) / frauds,
        segment_frauds=segment_frauds,
        segment_gain=tuple(
            sum(block.segment_gain[n] * block.segment_frauds[n] for block in blocks) / max(segment_frauds[n], 1)
            for n in range(len(SEGMENTS))
        ),
        first_ms=blocks[0].start_ms,
        last_ms=blocks[-1].start_ms,
    )


def _turned(block: Block) -> Block:
    """The same block with a and b changed over."""
    return Block(
        start_ms=block.start_ms,
        rows=block.rows,
        frauds=block.frauds,
        precision_a=block.precision_b,
        precision_b=block.precision_a,
        skill_a=block.skill_b,
        skill_b=block.skill_a,
        expected_a=block.expected_b,
        expected_b=block.expected_a,
        segment_frauds=block.segment_frauds,
        segment_gain=tuple(-gain for gain in block.segment_gain),
    )
