"""When the world learns what a payment was: outcomes wait here until the event time has reached them.

A schedule holds *runs*, one for each chunk of events, each sorted by release time. Releasing merges the heads of the
runs that are due; memory is the pending outcomes' columns, never a Python object each.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

SOURCES = ("analyst", "chargeback", "early_warning", "customer")
ANALYST, CHARGEBACK, EARLY_WARNING, CUSTOMER = range(4)

Ints = NDArray[np.int64]


class Outcome(NamedTuple):
    """One record for ``outcomes.raw.v1``."""

    outcome_id: str
    event_id: str
    customer_id: str
    fraud: bool
    source: int  # index into SOURCES
    observed_time_ms: int
    revises: str | None

    def value(self) -> bytes:
        """The record as JSON."""
        fields: dict[str, str | int] = {
            "outcome_id": self.outcome_id,
            "event_id": self.event_id,
            "customer_id": self.customer_id,
            "label": "fraud" if self.fraud else "genuine",
            "source": SOURCES[self.source],
            "observed_time_ms": self.observed_time_ms,
        }
        if self.revises is not None:
            fields["revises"] = self.revises
        return orjson.dumps(fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueLabels:
    """What events really were, for those who look into them; all columns of length n, in no promised order."""

    event_ids: Sequence[str]
    customer_ids: Sequence[str]
    event_time_ms: Ints
    fraud: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        event_ids: Sequence[str],
        customer_ids: Sequence[str],
        event_time_ms: Ints,
        truth: Sequence[bool | None],
    ) -> TrueLabels:
        """Of those events whose truth is given; None means that nobody knows."""
        rows = [row for row, fraud in enumerate(truth) if fraud is not None]
        return cls(
            event_ids=[event_ids[row] for row in rows],
            customer_ids=[customer_ids[row] for row in rows],
            event_time_ms=event_time_ms[rows],
            fraud=np.array([truth[row] for row in rows], np.bool_),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRun:
    """Outcomes sorted by release; arrays have shape (m,), ``event`` points into the two lists of ids."""

    release_ms: Ints  # event time at which the outcome becomes known
    event: Ints
    fraud: NDArray[np.bool_]
    source: NDArray[np.int8]
    ordinal: NDArray[np.int8]  # 0: first word on its event; 1: reverses that first word
    event_ids: Sequence[str]
    customer_ids: Sequence[str]

    def outcomes(self, start: int, end: int) -> list[Outcome]:
        """The outcomes at positions ``start`` to ``end``, as records."""
        return [
            _outcome(self.event_ids[event], self.customer_ids[event], fraud, source, release, ordinal)
            for event, fraud, source, release, ordinal in zip(
                self.event[start:end].tolist(),
                self.fraud[start:end].tolist(),
                self.source[start:end].tolist(),
                self.release_ms[start:end].tolist(),
                self.ordinal[start:end].tolist(),
                strict=True,
            )
        ]


class OutcomeSchedule:
    """Outcomes that are not known yet, released in order of their time."""

    def __init__(self, released_until_ms: int | None = None) -> None:
        """Outcomes due at or before ``released_until_ms`` were released by an earlier run and are left out."""
        self._released_until_ms = released_until_ms
        self._runs: list[tuple[int, int, OutcomeRun, int]] = []  # next release, tie-break, run, position
        self._added = 0
        self.pending = 0

    def add(self, run: OutcomeRun) -> None:
        """Put a run's outcomes on the schedule."""
        start = 0
        if self._released_until_ms is not None:
            start = int(np.searchsorted(run.release_ms, self._released_until_ms, side="right"))
        self.pending += len(run.release_ms) - start
        self._push(run, start)

    def release(self, until_ms: int) -> list[Outcome]:
        """Remove and return every outcome that is known by event time ``until_ms``, earliest first."""
        due: list[Outcome] = []
        while self._runs and self._runs[0][0] <= until_ms:
            _, _, run, start = heapq.heappop(self._runs)
            end = int(np.searchsorted(run.release_ms, until_ms, side="right"))
            due += run.outcomes(start, end)
            self._push(run, end)
        due.sort(key=lambda outcome: outcome.observed_time_ms)
        self.pending -= len(due)
        return due

    def _push(self, run: OutcomeRun, position: int) -> None:
        if position < len(run.release_ms):
            heapq.heappush(self._runs, (int(run.release_ms[position]), self._added, run, position))
            self._added += 1


def fixed_delay_run(truth: TrueLabels, delay_ms: int) -> OutcomeRun:
    """A chargeback for every event, genuine ones too, ``delay_ms`` of event time after it."""
    return told_run(truth, np.arange(len(truth.fraud)), truth.event_time_ms + delay_ms, CHARGEBACK)


def told_run(truth: TrueLabels, rows: Ints, release_ms: Ints, source: int) -> OutcomeRun:
    """``source`` tells the truth about ``rows`` at ``release_ms`` (shape of ``rows``)."""
    return sorted_run(
        release_ms=release_ms,
        event=rows,
        fraud=truth.fraud[rows],
        source=np.full(len(rows), source, np.int8),
        ordinal=np.zeros(len(rows), np.int8),
        event_ids=truth.event_ids,
        customer_ids=truth.customer_ids,
    )


def sorted_run(
    *,
    release_ms: Ints,
    event: Ints,
    fraud: NDArray[np.bool_],
    source: NDArray[np.int8],
    ordinal: NDArray[np.int8],
    event_ids: Sequence[str],
    customer_ids: Sequence[str],
) -> OutcomeRun:
    """The run of these outcomes, brought into order of release."""
    order = np.argsort(release_ms, kind="stable")
    return OutcomeRun(
        release_ms=release_ms[order],
        event=event[order],
        fraud=fraud[order],
        source=source[order],
        ordinal=ordinal[order],
        event_ids=event_ids,
        customer_ids=customer_ids,
    )


def _outcome(event_id: str, customer_id: str, fraud: bool, source: int, release_ms: int, ordinal: int) -> Outcome:
    # The identity of an event includes its customer, so the outcome's must too. An analyst's word is one of its own.
    first = f"{'a' if source == ANALYST else 'o'}-{customer_id}-{event_id}"
    if ordinal == 0:
        return Outcome(first, event_id, customer_id, fraud, source, release_ms, None)
    return Outcome(f"{first}-{ordinal}", event_id, customer_id, fraud, source, release_ms, first)
