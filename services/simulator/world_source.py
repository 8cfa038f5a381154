"""The simulated world as a source: its days rendered as JSON, dirt mixed in, outcomes drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import count
from math import ceil

import numpy as np

from services.simulator.chunk import CHUNK_RECORDS_MAX, Chunk, Ints, running_clock
from services.simulator.delays import DELAYS_MAX, Chargebacks, Delays
from services.simulator.dirty import DirtyRates, soil
from services.simulator.fraud import Kind
from services.simulator.outcomes import OutcomeRun, TrueLabels
from services.simulator.payments import CHANNELS, Payments
from services.simulator.people import ALL_COUNTRIES
from services.simulator.rhythm import DAY_MS, REVIEW_DAYS
from services.simulator.world import World

# A position is day * this + number within the day: finding it again needs no count of the days before.
DAY_POSITIONS = 1_000_000_000
# Streams of random numbers beside those that the world draws from.
_DELAYS, _DIRT = 100, 101


class WorldSource:
    """Days 0 to ``days`` of a world (without end when None); the first ``history_days`` are not paced."""

    def __init__(
        self,
        world: World,
        delays: Delays | Chargebacks,
        *,
        days: int | None = None,
        history_days: int = 0,
        dirty: DirtyRates | None = None,
    ) -> None:
        self._world, self._delays, self._days, self._dirty = world, delays, days, dirty or DirtyRates()
        self._history_days = history_days
        people, seed = world.people, world.settings.seed
        self._customer_ids = [f"c{number:06d}" for number in range(people.customers)]
        self._terminal_ids = [f"t{number:06d}" for number in range(people.terminals)]
        self._keys = [name.encode() for name in self._customer_ids]
        self._seed = seed

    @property
    def name(self) -> str:
        """The seed, and a digest of everything else that the records follow from."""
        settings = f"{self._world.settings} {self._dirty}"
        return f"world {self._seed} {blake2b(settings.encode(), digest_size=8).hexdigest()}"

    @property
    def records_expected(self) -> int | None:
        """Days times the mean of a day."""
        settings = self._world.settings
        daily = settings.customers * settings.payments_per_customer_day / (1 - settings.fraud_share)
        return None if self._days is None else round(self._days * daily)

    @property
    def history_until_ms(self) -> int | None:
        """End of the history."""
        return self._world.day_start_ms(self._history_days) if self._history_days else None

    def chunks(self, position: int) -> Iterator[Chunk]:
        """Whole days, cut into chunks, from as many days back as an outcome may take or an analyst looks."""
        look_back_days = max(ceil(DELAYS_MAX * self._delays.label_delay_ms / DAY_MS), REVIEW_DAYS) + 1
        first_day = max(0, position // DAY_POSITIONS - look_back_days)
        for day in count(first_day) if self._days is None else range(first_day, self._days):
            yield from self._day(day)

    def _day(self, day: int) -> Iterator[Chunk]:
        payments, truth = self._world.day(day)
        event_ids = [f"w{self._seed}-{day}-{number}" for number in range(len(payments))]
        customer_ids = [self._customer_ids[customer] for customer in payments.customer.tolist()]
        fraud = truth.kind != Kind.GENUINE
        outcomes = self._delays.run(self._stream(_DELAYS, day), event_ids, customer_ids, payments.event_time_ms, fraud)
        known = TrueLabels(
            event_ids=event_ids, customer_ids=customer_ids, event_time_ms=payments.event_time_ms, fraud=fraud
        )
        keys: Sequence[bytes] = [self._keys[customer] for customer in payments.customer.tolist()]
        values: Sequence[bytes] = render(payments, event_ids, customer_ids, self._terminal_ids)
        times = payments.event_time_ms
        if self._dirty.any:
            times, keys, values, _, _ = soil(self._stream(_DIRT, day), self._dirty, times, keys, values)
        yield from _cut(day * DAY_POSITIONS, running_clock(times, 0), keys, values, outcomes, known)

    def _stream(self, what: int, day: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self._seed, what, day])))


def render(
    payments: Payments, event_ids: Sequence[str], customer_ids: Sequence[str], terminal_ids: Sequence[str]
) -> list[bytes]:
    """Each payment as the JSON of the event contract; ``customer_ids`` are per payment, ``terminal_ids`` per number.

    Formatted by hand, at 1 us a record: every string in it is our own and needs no escape.
    """
    return [
        f'{{"event_id":"{event_id}","event_time_ms":{time},"customer_id":"{customer_id}",'
        f'"terminal_id":"{terminal_ids[terminal]}","amount_minor":{amount},"channel":"{CHANNELS[channel]}",'
        f'"country":"{ALL_COUNTRIES[country]}","device_id":"{_device(customer_id, device)}"}}'.encode()
        for event_id, time, customer_id, terminal, amount, channel, country, device in zip(
            event_ids,
            payments.event_time_ms.tolist(),
            customer_ids,
            payments.terminal.tolist(),
            payments.amount_minor.tolist(),
            payments.channel.tolist(),
            payments.country.tolist(),
            payments.device.tolist(),
            strict=True,
        )
    ]


def _device(customer_id: str, device: int) -> str:
    """A device's name; a stranger's looks like anybody's, so that the name itself tells nothing."""
    return f"d{customer_id[1:]}{device}" if device >= 0 else f"d{-device:06d}7"


def _cut(
    first: int, clock_ms: Ints, keys: Sequence[bytes], values: Sequence[bytes], outcomes: OutcomeRun, truth: TrueLabels
) -> Iterator[Chunk]:
    """Chunks of bounded size; the day's outcomes and its truth go with the first."""
    for start in range(0, len(values), CHUNK_RECORDS_MAX):
        end = start + CHUNK_RECORDS_MAX
        yield Chunk(
            first=first + start,
            clock_ms=clock_ms[start:end],
            keys=list(keys[start:end]),
            values=list(values[start:end]),
            outcomes=outcomes if start == 0 else None,
            truth=truth if start == 0 else None,
        )
