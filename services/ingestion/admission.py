"""Who may pass: the state of one raw partition and its verdict on each valid record, in log order. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from services.ingestion.event_clock import ClockRules, EventClock
from services.ingestion.seen import SeenIdentities, bucket_ms_of
from services.mesh.errors import Poison, RejectCode
from services.mesh.event_fields import body_hash_of
from services.mesh.identity import identity_of
from services.mesh.outcome_fields import outcome_body_hash_of, outcome_identity_of
from services.mesh.records import EventRaw, OutcomeRaw


class Candidate(NamedTuple):
    """A valid event or outcome in its customer's partition, ready to be judged."""

    record: Any  # EventRaw or OutcomeRaw
    key: bytes  # the customer_id
    identity: bytes
    body: int  # hash
    time_ms: int  # what the partition's clock runs on
    event: bytes  # identity of the event that it is, or is about

    @classmethod
    def of(cls, event: EventRaw, key: bytes) -> Candidate:
        """The candidate of ``event``, whose customer is ``key``."""
        identity = identity_of(event["customer_id"], event["event_id"])
        return cls(event, key, identity, body_hash_of(event), event["event_time_ms"], identity)


def candidate_of_outcome(outcome: OutcomeRaw, key: bytes) -> Candidate:
    """The candidate of ``outcome``, whose customer is ``key``: one customer's outcome ids stand once."""
    event = identity_of(outcome["customer_id"], outcome["event_id"])
    body = outcome_body_hash_of(outcome)
    return Candidate(outcome, key, outcome_identity_of(outcome), body, outcome["observed_time_ms"], event)


class Repeat:
    """The verdict on a record that was accepted before: drop it."""


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

    def bucket_of(self, time_ms: int) -> int:
        """The bucket that keeps a record of this time."""
        return time_ms // self._bucket_ms

    def judge(self, candidate: Candidate, append_time_ms: int, probed: int | None) -> Poison | Repeat | None:
        """Accept (None), drop or refuse; state changes only for what is accepted, and for a jump's voice."""
        record, key, identity, body, time_ms, _ = candidate
        poison = self.clock.refuse(time_ms, append_time_ms, key, identity)
        if poison is not None:
            return poison
        known = self.seen.body_of(identity, probed, self.floor)
        if known is None:
            self.clock.accept(time_ms)
            self.seen.add(identity, body, time_ms // self._bucket_ms)
            return None
        if known == body:
            return REPEAT
        field = "outcome_id" if "outcome_id" in record else "event_id"
        return Poison(
            RejectCode.CONFLICT,
            f"{field}={record[field]!r} of this customer was accepted before with another body; "
            "what was said never changes: send the new one under an id of its own",
            field,
        )
