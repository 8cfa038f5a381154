"""Hand-made ends of the desk: a log, a follower and an index that do what a test says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from services.gateway.bodies import Posted, event_in
from services.gateway.verdicts import Decided, Refused
from services.gateway.waiting import Waiters
from services.mesh.errors import Transient

EVENT = {"event_id": "e", "customer_id": "c", "terminal_id": "t", "event_time_ms": 9, "amount_minor": 5}
KEY = (b"e", b"c")


def event(**fields: Any) -> Posted:
    return event_in(json.dumps(EVENT | fields).encode())


def decision_of(posted: Posted) -> Decided:
    return Decided({"event_id": posted.event_id, "action": "approve"}, posted.body_hash)


def refusal_of(posted: Posted, code: str = "late", origin: str = "events.raw.v1") -> Refused:
    return Refused(code, "event_time_ms", "too late", "ingestion", origin, posted.value)


class Ends:
    """A log, a follower and an index that do what a test says."""

    def __init__(self) -> None:
        self.waiters = Waiters()
        self.appended: list[bytes] = []
        self.failure: Transient | None = None
        self.found: Decided | Refused | None = None
        self.unclear = False
        self.is_awake = True
        self.decided_unseen: Decided | None = None  # found by who follows
        self.on_append: Callable[[bytes], None] = lambda value: None

    async def append(self, topic: str, key: bytes, value: bytes, headers: Any, wait_s: float | None = None) -> None:
        if self.failure is not None:
            raise self.failure
        self.appended.append(value)
        self.on_append(value)

    async def append_all(self, topic: str, records: Sequence[tuple[bytes, bytes]], headers: Any) -> list[Any]:
        self.appended += [value for _, value in records]
        return [self.failure] * len(records)

    async def wake(self, limit_s: float) -> None:
        if self.unclear:
            raise Transient("cannot be followed")
        self.is_awake = True
        self.found = self.found or self.decided_unseen

    async def find(self, event_id: str, customer_id: str) -> Decided | Refused | None:
        if self.unclear:
            raise Transient("no index")
        return self.found
