"""Decisions that wait to be sent: of one customer one after the other, among customers whoever is due first. Pure."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from services.mesh.ports import InRecord


@dataclass(slots=True, eq=False)
class Delivery:
    """One decision on its way to one receiver."""

    record: InRecord
    lane: bytes  # whose order is kept: the customer
    attempts: int = 0  # that count against its limit
    first_s: float | None = None  # when it was first sent


class Lanes:
    """Every delivery that is not over. Only the first of a lane can be sent."""

    def __init__(self) -> None:
        self._lanes: dict[bytes, deque[Delivery]] = {}
        self._due: list[tuple[float, int, bytes]] = []  # of first ones that wait
        self._number = 0

    def __iter__(self) -> Iterator[Delivery]:
        return chain.from_iterable(self._lanes.values())

    def add(self, delivery: Delivery, now_s: float) -> None:
        """Behind the others of its lane."""
        lane = self._lanes.get(delivery.lane)
        if lane is None:
            self._lanes[delivery.lane] = deque((delivery,))
            self._wait(delivery.lane, now_s)
        else:
            lane.append(delivery)

    def due_s(self) -> float | None:
        """When the next one can be sent; None when none waits."""
        return self._due[0][0] if self._due else None

    def take(self, now_s: float) -> Delivery | None:
        """The one that is due first, to be sent now; None when none is due. ``done`` or ``again`` follows."""
        if not self._due or self._due[0][0] > now_s:
            return None
        _, _, lane = heapq.heappop(self._due)
        return self._lanes[lane][0]

    def done(self, delivery: Delivery, now_s: float) -> None:
        """It is over, and the next of its lane can be sent."""
        lane = self._lanes[delivery.lane]
        assert lane[0] is delivery, "only the first of a lane is ever taken"
        lane.popleft()
        if lane:
            self._wait(delivery.lane, now_s)
        else:
            del self._lanes[delivery.lane]

    def again(self, delivery: Delivery, due_s: float) -> None:
        """It failed, and is still the first of its lane."""
        assert self._lanes[delivery.lane][0] is delivery, "only the first of a lane is ever taken"
        self._wait(delivery.lane, due_s)

    def _wait(self, lane: bytes, due_s: float) -> None:
        self._number += 1
        heapq.heappush(self._due, (due_s, self._number, lane))
