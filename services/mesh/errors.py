"""What can go wrong, by who has to act.

WeirError
├── Poison      this record is at fault: dead-letter it with its cause, go on with the next
├── Transient   this moment is at fault: drop what is uncommitted, open everything anew, try again
│   ├── Fenced            another process owns what we wrote to: the same remedy, and said apart
│   ├── StoreUnreachable  the state store does not answer in time
│   └── StoreLost         the state store answers, but not with the state that we left there
└── Fatal       we or the configuration are at fault: say why in one line and end the process
"""

from __future__ import annotations

from enum import StrEnum


class RejectCode(StrEnum):
    """Every reason for which an input record is refused; the value is the ``error_code`` of its dead letter."""

    TOMBSTONE = "tombstone"  # no value at all
    TOO_LARGE = "too_large"  # more bytes than the decoder may be handed
    MALFORMED_JSON = "malformed_json"  # not one JSON object in UTF-8, or a key twice
    MALFORMED_AVRO = "malformed_avro"  # bytes do not follow their schema, or claim absurd sizes
    UNKNOWN_SCHEMA = "unknown_schema"  # schema id is none of this topic's
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"  # most often a typo of an optional field; never dropped silently
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    WRONG_KEY = "wrong_key"  # sent once more under its right key, and still in a partition that is not its customer's
    LATE = "late"  # older than the allowed lateness behind the partition's event-time clock
    CLOCK_AHEAD = "clock_ahead"  # event time is ahead of the wall clock
    CLOCK_JUMP = "clock_jump"  # event time is further ahead of the partition's clock than one record may move it
    CONFLICT = "conflict"  # identity seen before with another body
    UNDECODABLE = "undecodable"  # a record between our own services that does not decode
    WEBHOOK_REFUSED = "webhook_refused"  # a decision that a receiver will not take, however often it is sent
    WEBHOOK_NOT_TAKEN = "webhook_not_taken"  # a decision that a receiver has not taken within the limits


class WeirError(Exception):
    """Root of every error that Weir raises on purpose; the message shows value, place and remedy."""


class Poison(WeirError):
    """One record can never be processed: it goes to dead letters with ``code`` and ``field``."""

    def __init__(self, code: RejectCode, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.field = field


class Transient(WeirError):
    """Processing failed for a reason that may pass: nothing was committed, the stage reopens and repeats."""


class Fenced(Transient):
    """A newer owner has taken over the partition: what we hold is out of date and is dropped."""


class StoreUnreachable(Transient):
    """The state store did not answer in time; the log goes on, state is caught up later."""


class StoreLost(Transient):
    """The state store has lost or changed ``partition``'s state: it is rebuilt from the log."""

    def __init__(self, message: str, partition: int) -> None:
        super().__init__(message)
        self.partition = partition


class Fatal(WeirError):
    """Going on would be wrong: the process ends with this one line and a non-zero status."""
