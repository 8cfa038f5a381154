"""A seeded world of card payments: any day of it, on its own, always the same.

``World.day(d)`` depends on the settings and on ``d`` alone. Days can therefore be made in any order, a run can go on
anywhere, and two runs of one seed are equal byte for byte. Each day draws from its own stream of random numbers,
derived from (seed, what is drawn, day).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from services.mesh.errors import Fatal
from services.simulator import rhythm
from services.simulator.campaigns import draw_campaigns
from services.simulator.fraud import CAMPAIGN_DAYS_MAX, USUAL_PATTERNS, Kind, Pattern, Shift, check_patterns
from services.simulator.payments import ATM, CHIP, CONTACTLESS, ONLINE, Payments, Truth, join_payments, join_truth
from services.simulator.people import ALL_COUNTRIES, People, draw_people
from services.simulator.rhythm import DAY_MS

MONDAY_2025_01_06_MS = 1_736_121_600_000

_BIG_PURCHASE_SHARE = 0.0015  # a sofa, a flight: genuine, and looks like theft
_BIG_PURCHASE_FACTOR = (3.0, 8.0)
_AWAY_SHARE = 0.04  # payments at terminals far from home
_SECOND_DEVICE_SHARE = 0.15
_HOLIDAY_SHARE = 0.02  # of customers, in any week, pay abroad
# numpy's seeds are not negative, and campaigns that reach into day 0 began before it.
_SEED_DAY_OFFSET = 1_000_000
_PEOPLE, _GENUINE, _HOLIDAYS, _CAMPAIGNS, _HABITS = range(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldSettings:
    """What a world is made from; equal settings make equal worlds."""

    seed: int = 1
    customers: int = 5_000
    terminals: int = 10_000
    payments_per_customer_day: float = 1.9  # 9.6 k events a day by default, fraud included
    fraud_share: float = 0.010  # of all payments
    first_day_ms: int = MONDAY_2025_01_06_MS
    patterns: tuple[Pattern, ...] = USUAL_PATTERNS
    shift: Shift | None = None

    def __post_init__(self) -> None:
        if self.seed < 0 or self.customers < 1 or self.terminals < 1 or self.payments_per_customer_day <= 0:
            raise Fatal(f"{self}: seed must be >= 0, customers, terminals and payments at least 1; see --help")
        if not 0 <= self.fraud_share < 1 or self.first_day_ms % DAY_MS:
            raise Fatal(f"{self}: fraud_share must be in [0, 1) and first_day_ms a midnight, UTC")
        check_patterns(self.patterns)
        check_patterns(self.shift.patterns if self.shift else ())


class World:
    """Days of payments; see the module's docstring."""

    def __init__(self, settings: WorldSettings) -> None:
        self.settings = settings
        self.people: People = draw_people(
            self._stream(_PEOPLE, 0), settings.customers, settings.terminals, settings.payments_per_customer_day
        )
        self._campaigns = lru_cache(maxsize=CAMPAIGN_DAYS_MAX + 2)(self._draw_campaigns)

    def day_start_ms(self, day: int) -> int:
        """Midnight (UTC) at which ``day`` begins."""
        return self.settings.first_day_ms + day * DAY_MS

    def day(self, day: int) -> tuple[Payments, Truth]:
        """All payments of ``day`` in order of event time, and apart what they were."""
        genuine = self._genuine(day)
        parts = [(genuine, Truth(kind=np.zeros(len(genuine), np.int64), campaign=np.full(len(genuine), -1)))]
        start = self.day_start_ms(day)
        for began in range(day - CAMPAIGN_DAYS_MAX, day + 1):
            payments, truth = self._campaigns(began)
            today = (payments.event_time_ms >= start) & (payments.event_time_ms < start + DAY_MS)
            parts.append((payments.take(today), truth.take(today)))
        payments, truth = join_payments([part[0] for part in parts]), join_truth([part[1] for part in parts])
        order = np.argsort(payments.event_time_ms, kind="stable")
        return payments.take(order), truth.take(order)

    def shift_level(self, day: int) -> float:
        """How much of the shift is in force on ``day``, 0 to 1."""
        return self.settings.shift.level(day) if self.settings.shift else 0.0

    def _stream(self, what: int, day: int) -> np.random.Generator:
        return np.random.Generator(
            np.random.PCG64(np.random.SeedSequence([self.settings.seed, what, day + _SEED_DAY_OFFSET]))
        )

    def _draw_campaigns(self, day: int) -> tuple[Payments, Truth]:
        settings = self.settings
        level = self.shift_level(day)
        weighted = [(pattern, 1.0 - level) for pattern in settings.patterns]
        weighted += [(pattern, level) for pattern in (settings.shift.patterns if settings.shift else ())]
        daily = settings.customers * settings.payments_per_customer_day
        fraud = daily * settings.fraud_share / (1.0 - settings.fraud_share)
        drawn = draw_campaigns(self._stream(_CAMPAIGNS, day), self.people, weighted, self.day_start_ms(day), fraud)
        if settings.shift is None or settings.shift.habit is None:
            return drawn
        habit, payments = settings.shift.habit.pattern, settings.shift.habit_payments(day)
        honest = draw_campaigns(
            self._stream(_HABITS, day), self.people, [(habit, 1.0 / habit.share)], self.day_start_ms(day), payments
        )
        return join_payments([drawn[0], honest[0]]), join_truth([drawn[1], honest[1]])

    def _genuine(self, day: int) -> Payments:
        rng, people, start = self._stream(_GENUINE, day), self.people, self.day_start_ms(day)
        counts = rng.poisson(people.payments_per_day * rhythm.volume_factor(start))
        customer = np.repeat(np.arange(people.customers), counts)
        n = len(customer)
        slot = (rng.random(n) ** 2 * people.neighbourhood.shape[1]).astype(np.int64)  # favourites more often
        away = rng.random(n) < _AWAY_SHARE
        terminal = np.where(away, rng.integers(0, people.terminals, n), people.neighbourhood[customer, slot])
        amount = np.exp(people.amount_log_mean[customer] + people.amount_log_sigma[customer] * rng.standard_normal(n))
        big = rng.random(n) < _BIG_PURCHASE_SHARE
        amount *= np.where(big, rng.uniform(*_BIG_PURCHASE_FACTOR, n), 1.0)
        amount *= self._amount_level(day)
        online = rng.random(n) < people.online_share[customer]
        in_person = np.array([CHIP, CONTACTLESS, CONTACTLESS, CONTACTLESS, ATM])[rng.integers(0, 5, n)]
        return Payments(
            event_time_ms=start + rhythm.genuine_rhythm(start).time_of_day_ms(rng.random(n)),
            customer=customer,
            terminal=terminal.astype(np.int64),
            amount_minor=np.maximum(1, np.rint(amount * 100.0)).astype(np.int64),
            channel=np.where(online, ONLINE, in_person),
            country=self._whereabouts(day)[customer],
            device=(rng.random(n) < _SECOND_DEVICE_SHARE).astype(np.int64),
        )

    def _amount_level(self, day: int) -> float:
        shift = self.settings.shift
        return 1.0 + self.shift_level(day) * (shift.genuine_amount_factor - 1.0) if shift else 1.0

    def _whereabouts(self, day: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """Country in which each customer is during the week of ``day``."""
        rng, people = self._stream(_HOLIDAYS, day // 7), self.people
        on_holiday = rng.random(people.customers) < _HOLIDAY_SHARE
        return np.where(on_holiday, rng.integers(0, len(ALL_COUNTRIES), people.customers), people.home_country)


__all__ = ["Kind", "Payments", "Truth", "World", "WorldSettings"]
