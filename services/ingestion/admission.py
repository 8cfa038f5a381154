"""Who may pass: the state of one raw partition and its verdict on each valid event, in log order. Pure."""

from __future__ import annotations

from typing import NamedTuple

from services.ingestion.event_clock import ClockRules, EventClock
from services.ingestion.seen import SeenIdentities, bucket_ms_of
from services.ingestion.validation import body_hash_of
from services.mesh.errors import Poison, RejectCode
from services.mesh.identity import identity_of
from services.mesh.records import EventRaw


class Candidate(NamedTuple):
    """A valid event in its customer's partition, ready to be judged."""

    event: EventRaw
    key: bytes  # the customer_id
    identity: bytes
    body: int  # hash

    @classmethod
    def of(cls, event: EventRaw, key: bytes) -> Candidate:
        """The candidate of ``event``, whose customer is ``key``."""
        return cls(event, key, identity_of(event["customer_id"], event["event_id"]), body_hash_of(event))


class Repeat:
    """The verdict on an event that was accepted before: drop it."""


REPEAT = Repeat()


class Admission:
    """Clock and seen identities of one partition."""

    def __init__(self, rules: ClockRules, clock: EventClock | None = None) -> None:
        self.clock = clock or EventClock(rules)
        self.seen = SeenIdentities()
        self._bucket_ms = bucket_ms_of(rules.lateness_ms)

    @property
    def floor(self) -> int:
        """The lowest bucket that still counts."""
        return self.clock.late_before_ms // self._bucket_ms

    def bucket_of(self, event_time_ms: int) -> int:
        """The bucket that keeps an event of this time."""
        return event_time_ms // self._bucket_ms

    def judge(self, candidate: Candidate, append_time_ms: int, probed: int | None) -> Poison | Repeat | None:
        """Accept (None), drop or refuse; state changes only for what is accepted, and for a jump's voice."""
        event, key, identity, body = candidate
        event_time_ms = event["event_time_ms"]
        poison = self.clock.refuse(event_time_ms, append_time_ms, key, identity)
        if poison is not None:
            return poison
        known = self.seen.body_of(identity, probed, self.floor)
        if known is None:
            self.clock.accept(event_time_ms)
            self.seen.add(identity, body, event_time_ms // self._bucket_ms)
            return None
        if known == body:
            return REPEAT
        return Poison(
            RejectCode.CONFLICT,
            f"event_id={event['event_id']!r} of this customer was accepted before with another body; "
            "an event never changes: send the new one under an id of its own",
            "event_id",
        )
