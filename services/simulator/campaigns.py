"""The payments of all fraud campaigns that begin on one day, drawn at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.simulator import rhythm
from services.simulator.fraud import Pattern
from services.simulator.payments import CHIP, ONLINE, Payments, Truth, join_payments, join_truth
from services.simulator.people import ALL_COUNTRIES, COUNTRIES, People

_SMALL_MINOR = (30, 200)  # a try with a card: just enough to see whether it answers
_CATCHMENT = 40  # customers on either side of a terminal on the curve whose cards pass through it

Ints = NDArray[np.int64]


def draw_campaigns(
    rng: np.random.Generator,
    people: People,
    weighted: list[tuple[Pattern, float]],
    day_start_ms: int,
    fraud_payments: float,
) -> tuple[Payments, Truth]:
    """All campaigns beginning on a day, over their whole length.

    ``weighted`` pairs each pattern with its weight on this day; ``fraud_payments`` is the expected number of
    fraudulent payments that a day's campaigns make, shared out by weight times the pattern's share.
    """
    parts = []
    first = 0
    for pattern, weight in weighted:
        # Rounded up or down at random, not Poisson: thieves keep busy, and a week's fraud stays near its mean.
        campaigns = int(fraud_payments * weight * pattern.share / pattern.payments_mean + rng.random())
        parts.append(_draw_pattern(rng, people, pattern, campaigns, day_start_ms, first))
        first += campaigns
    return join_payments([part[0] for part in parts]), join_truth([part[1] for part in parts])


def _draw_pattern(
    rng: np.random.Generator, people: People, pattern: Pattern, campaigns: int, day_start_ms: int, first: int
) -> tuple[Payments, Truth]:
    small = _whole(rng, pattern.small_payments, campaigns)
    size = small + _whole(rng, pattern.payments, campaigns)
    campaign = np.repeat(np.arange(campaigns), size)
    n = len(campaign)
    # Position of a payment within its campaign: the tries come first, so time must grow with it.
    position = np.arange(n) - np.repeat(np.cumsum(size) - size, size)
    is_try = position < small[campaign]
    customer, terminal = _who_and_where(rng, people, pattern, campaign, campaigns)
    time = _when(rng, pattern, campaign, campaigns, position, size[campaign], day_start_ms)
    payments = Payments(
        event_time_ms=time,
        customer=customer,
        terminal=terminal,
        amount_minor=np.where(is_try, rng.integers(*_SMALL_MINOR, n), _amount_minor(rng, people, pattern, customer)),
        channel=np.full(n, ONLINE if pattern.online_foreign else CHIP),
        country=_country(rng, people, pattern, campaign, campaigns, customer),
        # One thief, one device, unlike any of the customer's own.
        device=(
            -1 - rng.integers(0, 1_000_000, campaigns)[campaign] if pattern.online_foreign else np.zeros(n, np.int64)
        ),
    )
    return payments, Truth(kind=np.full(n, int(pattern.kind)), campaign=first + campaign)


def _whole(rng: np.random.Generator, bounds: tuple[int, int], n: int) -> Ints:
    return rng.integers(bounds[0], bounds[1] + 1, n)


def _who_and_where(
    rng: np.random.Generator, people: People, pattern: Pattern, campaign: Ints, campaigns: int
) -> tuple[Ints, Ints]:
    n = len(campaign)
    if pattern.victim == "terminal":
        terminal = rng.integers(0, people.terminals, campaigns)[campaign]
        place = people.near_terminal_rank[terminal] + rng.integers(-_CATCHMENT, _CATCHMENT + 1, n)
        return people.near_terminal[np.clip(place, 0, people.customers - 1)].astype(np.int64), terminal
    customer = rng.integers(0, people.customers, campaigns)[campaign]
    match pattern.where:
        case "anywhere":
            terminal = rng.integers(0, people.terminals, n)
        case "one_terminal":
            terminal = rng.integers(0, people.terminals, campaigns)[campaign]
        case "outlet":
            # Spread over the whole curve that numbers the terminals, so that they stand in different towns.
            outlets = (np.arange(pattern.outlets) * people.terminals + people.terminals // 2) // pattern.outlets
            terminal = outlets[rng.integers(0, pattern.outlets, campaigns)][campaign]
        case "near_home":
            slot = rng.integers(0, people.neighbourhood.shape[1], n)
            terminal = people.neighbourhood[customer, slot].astype(np.int64)
    return customer, terminal


def _when(
    rng: np.random.Generator,
    pattern: Pattern,
    campaign: Ints,
    campaigns: int,
    position: Ints,
    size: Ints,
    day_start_ms: int,
) -> Ints:
    n = len(campaign)
    span_ms = rng.uniform(pattern.span_h[0], pattern.span_h[1], campaigns)[campaign] * rhythm.HOUR_MS
    # One jittered step a payment: spread over the span, in the order of their positions.
    offset = ((position + rng.random(n)) / size * span_ms).astype(np.int64)
    if span_ms.size and span_ms.max() > 2 * rhythm.DAY_MS:  # days long: on each day at the hours it keeps
        hours = rhythm.THIEF if pattern.by_night else rhythm.WEEKDAY
        return day_start_ms + offset // rhythm.DAY_MS * rhythm.DAY_MS + hours.time_of_day_ms(rng.random(n))
    hours = rhythm.THIEF if pattern.by_night else rhythm.WEEKDAY
    start = hours.time_of_day_ms(rng.random(campaigns))[campaign]
    return day_start_ms + start + offset


def _amount_minor(rng: np.random.Generator, people: People, pattern: Pattern, customer: Ints) -> Ints:
    factor = rng.uniform(pattern.amount_factor[0], pattern.amount_factor[1], len(customer))
    usual = np.exp(people.amount_log_mean[customer])
    return np.maximum(1, np.rint(100.0 * usual * factor)).astype(np.int64)


def _country(
    rng: np.random.Generator, people: People, pattern: Pattern, campaign: Ints, campaigns: int, customer: Ints
) -> Ints:
    if pattern.online_foreign:
        return rng.integers(len(COUNTRIES), len(ALL_COUNTRIES), campaigns)[campaign]
    return people.home_country[customer]
