"""What the features of card payments mean, computed the slow way: every event in a list, every window a scan.

Shares no code with ``services.features``: names, windows, lateness, the tile rule and the rounding are written out here
from the design, in fractions, and looked at afresh for each event.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from typing import Literal

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

CUSTOMER_WINDOWS = {"5m": 5 * MINUTE, "1h": HOUR, "1d": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
TERMINAL_WINDOWS = {"1d": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
DELAY = 7 * DAY
LATENESS = DAY
TILE = HOUR
QUARTER = 6 * HOUR

ViewName = Literal["customer", "terminal"]
REACH = {"customer": 30 * DAY, "terminal": 37 * DAY}

NAMES = {
    "customer": [
        "amount",
        "is_weekend",
        "is_night",
        "customer_count_5m",
        "customer_count_1h",
        "customer_count_1d",
        "customer_count_7d",
        "customer_count_30d",
        "customer_amount_mean_5m",
        "customer_amount_mean_1h",
        "customer_amount_mean_1d",
        "customer_amount_mean_7d",
        "customer_amount_mean_30d",
    ],
    "terminal": [
        "terminal_count_1d_delay_7d",
        "terminal_count_7d_delay_7d",
        "terminal_count_30d_delay_7d",
        "terminal_fraud_rate_1d_delay_7d",
        "terminal_fraud_rate_7d_delay_7d",
        "terminal_fraud_rate_30d_delay_7d",
        "terminal_known_fraud_rate_1d",
        "terminal_known_fraud_rate_7d",
        "terminal_known_fraud_rate_30d",
        "terminal_known_labels_1d",
        "terminal_known_labels_7d",
        "terminal_known_labels_30d",
    ],
}


@dataclass
class Payment:
    """One event of an entity, and the label it has by now."""

    time: int
    amount: Fraction
    identity: int
    label: str = ""


@dataclass
class Stretch:
    """Folded events of one stretch of time. ``members`` is the truth, for the bound; the rule knows the sums alone."""

    members: list[Payment] = field(default_factory=list)
    genuine: int = 0
    fraud: int = 0

    @property
    def newest(self) -> int:
        return max(member.time for member in self.members)


@dataclass
class Entity:
    """Everything that was ever accepted for one entity."""

    newest: int | None = None
    exact: list[Payment] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    width: int = TILE


class FeatureOracle:
    """One view of the design, entity by entity."""

    def __init__(self, view: ViewName, exact_events_max: int = 4096, partition_events_max: int = 10**9) -> None:
        self.view: ViewName = view
        self.exact_events_max = exact_events_max
        self.partition_events_max = partition_events_max
        self.arrived: dict[int, list[int]] = {}  # partition -> quarter of a day of each of its events
        self.entities: dict[str, Entity] = {}

    def event(
        self, name: str, time: int, minor: int, exponent: int, identity: int, partition: int = 0
    ) -> tuple[list[Fraction | None], str]:
        """Exact features, None for one that can't be known, and the status."""
        entity = self.entities.setdefault(name, Entity())
        horizon = self.horizon(entity)
        payment = Payment(time, Fraction(minor, 10**exponent), identity)
        if horizon is None or time > horizon:
            self._accept(entity, payment, horizon)
        values = self.features(entity, payment)
        status = "ok"
        if horizon is not None and time - REACH[self.view] < horizon:
            status = "stale"
            values = [
                None if time - reach < horizon else value for value, reach in zip(values, self.reaches(), strict=True)
            ]
        elif any(stretch.newest > time - REACH[self.view] for stretch in entity.stretches):
            status = "saturated"
        self.arrived.setdefault(partition, []).append(time // QUARTER)
        self._fold(entity, *self.memory(partition))
        return values, status

    def memory(self, partition: int) -> tuple[int | None, int]:
        """Times up to which memory asks for tiles (None: it does not), and how many events each is to hold then."""
        arrived = self.arrived[partition]
        newest, room = max(arrived), (REACH[self.view] + LATENESS) // QUARTER + 2
        counts = {quarter: arrived.count(quarter) for quarter in range(newest - room + 1, newest + 1)}
        total = sum(counts.values())
        if total <= self.partition_events_max:
            return None, 0
        fits, first = counts[newest], newest
        while fits + counts[first - 1] <= self.partition_events_max:
            first -= 1
            fits += counts[first]
        return first * QUARTER - 1, math.ceil(Fraction(6 * total, self.partition_events_max))

    def label(self, name: str, time: int, identity: int, label: str, is_revision: bool) -> bool:
        """Label an event; whether it was found."""
        entity = self.entities.setdefault(name, Entity())
        horizon = self.horizon(entity)
        if horizon is None or time <= horizon:
            return False
        for payment in entity.exact:
            if payment.time == time and payment.identity == identity:
                payment.label = label
                return True
        for stretch in entity.stretches:
            if stretch.members[0].time // entity.width == time // entity.width and time <= stretch.newest:
                for member in stretch.members:
                    if member.identity == identity and member.time == time:
                        member.label = label
                self._label_stretch(stretch, label, is_revision)
                return True
        return False

    def horizon(self, entity: Entity) -> int | None:
        """Times up to here are not kept."""
        return None if entity.newest is None else entity.newest - REACH[self.view] - LATENESS

    def reaches(self) -> Sequence[float]:
        """How far back each feature looks."""
        if self.view == "customer":
            return [-math.inf] * 3 + list(CUSTOMER_WINDOWS.values()) * 2
        delayed = [DELAY + window for window in TERMINAL_WINDOWS.values()]
        return delayed * 2 + list(TERMINAL_WINDOWS.values()) * 2

    def features(self, entity: Entity, now: Payment) -> list[Fraction | None]:
        """The view's features by the tile rule, which is exact where nothing is folded."""
        if self.view == "customer":
            moment = datetime.fromtimestamp(now.time // 1000, UTC)
            own = [now.amount, Fraction(moment.weekday() >= 5), Fraction(moment.hour <= 6)]
            windows = [self.window(entity, now.time - w, now.time) for w in CUSTOMER_WINDOWS.values()]
            return [*own, *(w["count"] for w in windows), *(ratio(w["amount"], w["count"]) for w in windows)]
        end = now.time - DELAY
        delayed = [self.window(entity, end - w, end) for w in TERMINAL_WINDOWS.values()]
        recent = [self.window(entity, now.time - w, now.time) for w in TERMINAL_WINDOWS.values()]
        return [
            *(w["count"] for w in delayed),
            *(ratio(w["fraud"], w["count"]) for w in delayed),
            *(ratio(w["fraud"], w["labelled"]) for w in recent),
            *(w["labelled"] for w in recent),
        ]

    def window(self, entity: Entity, after: int, until: int) -> dict[str, Fraction]:
        """Sums over (after, until]: exact events by their time, a stretch whole by its newest."""
        inside = [payment for payment in entity.exact if after < payment.time <= until]
        whole = [stretch for stretch in entity.stretches if after < stretch.newest <= until]
        folded = [member for stretch in whole for member in stretch.members]
        return {
            "count": Fraction(len(inside) + len(folded)),
            "amount": sum((payment.amount for payment in inside + folded), Fraction(0)),
            "labelled": Fraction(sum(p.label != "" for p in inside) + sum(s.genuine + s.fraud for s in whole)),
            "fraud": Fraction(sum(p.label == "fraud" for p in inside) + sum(s.fraud for s in whole)),
        }

    def bounds(self, entity: Entity, now: int) -> list[tuple[int, int, int]]:
        """(place of a count in the vector, true count, most by which the tile rule may be off)."""
        if self.view == "customer":
            windows = [(3 + n, now - w, now, False) for n, w in enumerate(CUSTOMER_WINDOWS.values())]
        else:
            end = now - DELAY
            windows = [(n, end - w, end, False) for n, w in enumerate(TERMINAL_WINDOWS.values())]
            windows += [(9 + n, now - w, now, True) for n, w in enumerate(TERMINAL_WINDOWS.values())]
        everything = entity.exact + [member for stretch in entity.stretches for member in stretch.members]
        bounds = []
        for place, after, until, labelled in windows:
            true = sum(after < p.time <= until and (not labelled or p.label != "") for p in everything)
            cut = [
                stretch
                for edge in (after, until)
                for stretch in entity.stretches
                if min(member.time for member in stretch.members) <= edge < stretch.newest
            ]
            bounds.append((place, true, sum(len(stretch.members) for stretch in cut)))
        return bounds

    def _accept(self, entity: Entity, payment: Payment, horizon: int | None) -> None:
        if horizon is not None:
            self._forget(entity, horizon)
        if entity.stretches and payment.time < max(stretch.newest for stretch in entity.stretches):
            self._put_in_stretch(entity, payment)
        else:
            entity.exact.append(payment)
        entity.newest = payment.time if entity.newest is None else max(entity.newest, payment.time)

    def _fold(self, entity: Entity, until: int | None, events_a_stretch: int) -> None:
        horizon = self.horizon(entity)
        assert horizon is not None
        kept = sorted((p for p in entity.exact if p.time > horizon), key=lambda p: p.time)
        self._forget(entity, horizon)
        count = 0
        if len(kept) > self.exact_events_max:
            count = len(kept) - max(1, self.exact_events_max * 3 // 4)
        old = min(len(kept) - 1, sum(p.time <= until for p in kept)) if until is not None else 0
        if old >= 16 and old >= len(kept) // 4:
            count = max(count, old)
        if not count:
            return
        for payment in kept[:count]:
            self._put_in_stretch(entity, payment)
        entity.exact = kept[count:]
        while (
            until is not None
            and sum(len(stretch.members) for stretch in entity.stretches) < len(entity.stretches) * events_a_stretch
            and entity.width < REACH[self.view] + LATENESS
        ):
            self._widen(entity)

    def _forget(self, entity: Entity, horizon: int) -> None:
        entity.stretches = [stretch for stretch in entity.stretches if stretch.newest > horizon]
        if not entity.stretches:
            entity.width = TILE

    def _widen(self, entity: Entity) -> None:
        entity.width *= 2
        wider: dict[int, Stretch] = {}
        for stretch in entity.stretches:
            one = wider.setdefault(stretch.members[0].time // entity.width, Stretch())
            one.members += stretch.members
            one.genuine += stretch.genuine
            one.fraud += stretch.fraud
        entity.stretches = list(wider.values())

    def _put_in_stretch(self, entity: Entity, payment: Payment) -> None:
        for stretch in entity.stretches:
            if stretch.members[0].time // entity.width == payment.time // entity.width:
                break
        else:
            stretch = Stretch()
            entity.stretches.append(stretch)
        stretch.members.append(payment)
        stretch.genuine += payment.label == "genuine"
        stretch.fraud += payment.label == "fraud"

    def _label_stretch(self, stretch: Stretch, label: str, is_revision: bool) -> None:
        counts = {"genuine": stretch.genuine, "fraud": stretch.fraud}
        other = "genuine" if label == "fraud" else "fraud"
        is_full = sum(counts.values()) == len(stretch.members)
        if counts[other] and (is_revision or is_full):
            counts[other] -= 1
            counts[label] += 1
        elif not is_full:
            counts[label] += 1
        stretch.genuine, stretch.fraud = counts["genuine"], counts["fraud"]


def ratio(part: Fraction, whole: Fraction) -> Fraction:
    """part / whole, 0 where there is nothing."""
    return part / whole if whole else Fraction(0)


def served(values: list[Fraction | None]) -> bytes:
    """Little-endian float32, each rounded once from the exact value; None is NaN."""
    return b"".join(struct.pack("<f", math.nan if value is None else float32(value)) for value in values)


def float32(value: Fraction) -> float:
    """The float32 nearest to a fraction >= 0, ties to even."""
    if not value:
        return 0.0
    exponent = value.numerator.bit_length() - value.denominator.bit_length() - 24
    while value >= Fraction(2) ** (exponent + 24):
        exponent += 1
    return round(value / Fraction(2) ** exponent) * 2.0**exponent
