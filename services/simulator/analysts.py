"""People who look into payments: whom they choose each evening, and what they tell the next morning. Pure.

Each evening they take the customers with the day's highest scores, equal ones in an order of chance. Customers of whom
a fraud has been known for over a week are left out: their cards are closed. All payments of the chosen customers of
the last seven days get their true label, told the next morning; what they told before they do not tell again.

Memory: the payments of eight days, one score for each customer of a day, one time for each defrauded customer.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from services.simulator.outcomes import ANALYST, Outcome, OutcomeRun, TrueLabels, told_run
from services.simulator.rhythm import DAY_MS, MORNING_MS, REVIEW_DAYS

Ints = NDArray[np.int64]

REVIEW_MS = REVIEW_DAYS * DAY_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebook:
    """What analysts must know after a restart: everything but the payments, which the source makes anew."""

    evening_ms: int = 0  # the latest one; 0: none yet
    chosen: Mapping[int, Sequence[str]] = field(default_factory=dict)  # by evening, of the last week
    defrauded: Mapping[str, tuple[str, int]] = field(default_factory=dict)  # customer -> event, known since
    offsets: Mapping[int, int] = field(default_factory=dict)  # of decisions.v1: those before it are looked at


@dataclass(slots=True)
class _Stretch:
    """Payments that came together, and which of them an analyst has told about."""

    truth: TrueLabels
    customers: NDArray[np.str_]
    newest_ms: int
    told: NDArray[np.bool_]


class Analysts:
    """``customers_per_day`` of them are looked into."""

    def __init__(self, customers_per_day: int, notebook: Notebook | None = None) -> None:
        before = notebook or Notebook()
        self.customers_per_day = customers_per_day
        self._evening_ms = before.evening_ms
        self._chosen = {evening_ms: list(customers) for evening_ms, customers in before.chosen.items()}
        self._defrauded = dict(before.defrauded)
        self.offsets = dict(before.offsets)
        self._highest: dict[int, dict[str, float]] = {}  # day -> customer -> score
        self._stretches: deque[_Stretch] = deque()

    def learn(self, truth: TrueLabels) -> None:
        """What payments really were; of days to come too, which are not looked at before their evening."""
        if len(truth.fraud):
            oldest_ms = int(truth.event_time_ms.min())
            while self._stretches and self._stretches[0].newest_ms <= oldest_ms - REVIEW_MS - 2 * DAY_MS:
                self._stretches.popleft()
            customers = np.array(truth.customer_ids)
            newest_ms = int(truth.event_time_ms.max())
            self._stretches.append(_Stretch(truth, customers, newest_ms, np.zeros(len(customers), np.bool_)))

    def decided(self, customers: Sequence[str], event_time_ms: Ints, scores: NDArray[np.float64]) -> None:
        """Decisions have been made."""
        for customer, day, score in zip(customers, (event_time_ms // DAY_MS).tolist(), scores.tolist(), strict=True):
            if (day + 1) * DAY_MS > self._evening_ms:
                highest = self._highest.setdefault(day, {})
                if score > highest.get(customer, -1.0):
                    highest[customer] = score

    def heard(self, outcomes: Iterable[Outcome]) -> None:
        """Outcomes that are known to everybody from now on, their own among them."""
        for outcome in outcomes:
            known = self._defrauded.get(outcome.customer_id)
            if outcome.fraud and known is None:
                self._defrauded[outcome.customer_id] = outcome.event_id, outcome.observed_time_ms
            elif not outcome.fraud and known is not None and known[0] == outcome.event_id:
                del self._defrauded[outcome.customer_id]  # it was none after all

    def evening(self, evening_ms: int) -> list[OutcomeRun]:
        """The day that ends at ``evening_ms`` is over and decided: what will be told the next morning."""
        if evening_ms > self._evening_ms:
            self._chosen[evening_ms] = self._choose(evening_ms)
            self._evening_ms = evening_ms
        runs = self._look_into(evening_ms)
        for day in [day for day in self._highest if (day + 1) * DAY_MS <= evening_ms]:
            del self._highest[day]
        for evening in [evening for evening in self._chosen if evening <= evening_ms - REVIEW_MS - DAY_MS]:
            del self._chosen[evening]
        return runs

    def resumed(self) -> list[OutcomeRun]:
        """After a restart: what earlier evenings found, so that what was not told by then still is."""
        return [run for evening_ms in sorted(self._chosen) for run in self._look_into(evening_ms)]

    @property
    def evening_ms(self) -> int:
        """When they last chose."""
        return self._evening_ms

    @property
    def notebook(self) -> Notebook:
        """To be kept before what ``evening`` said is told."""
        return Notebook(
            evening_ms=self._evening_ms,
            chosen=dict(self._chosen),
            defrauded=dict(self._defrauded),
            offsets=dict(self.offsets),
        )

    def _choose(self, evening_ms: int) -> list[str]:
        day = evening_ms // DAY_MS - 1
        closed_ms = evening_ms - REVIEW_MS
        ranked = (
            (-score, crc32(b"%d %b" % (day, customer.encode())), customer)
            for customer, score in self._highest.get(day, {}).items()
            if self._defrauded.get(customer, ("", evening_ms))[1] > closed_ms
        )
        return [customer for _, _, customer in heapq.nsmallest(self.customers_per_day, ranked)]

    def _look_into(self, evening_ms: int) -> list[OutcomeRun]:
        chosen = np.array(self._chosen.get(evening_ms, []), dtype=np.str_)
        runs = []
        for stretch in self._stretches:
            times = stretch.truth.event_time_ms
            recent = (times > evening_ms - REVIEW_MS) & (times < evening_ms) & ~stretch.told
            rows = np.flatnonzero(recent & np.isin(stretch.customers, chosen))
            if len(rows):
                stretch.told[rows] = True
                morning_ms = np.full(len(rows), evening_ms + MORNING_MS, np.int64)
                runs.append(told_run(stretch.truth, rows, morning_ms, ANALYST))
        return runs
