"""The account of outcomes: each accepted one is joined, waiting, or an orphan, and in one of these places once.

It trusts no counter either: it reads ``labels.v1`` and ``outcomes.orphan.v1``, then ``outcomes.v1``, and asks of what
is in neither whether it may still be waiting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.mesh.codec import HEADER_BYTES, Codec
from services.mesh.errors import Poison
from services.mesh.headers import WEIR, find
from services.mesh.identity import identity_of
from services.mesh.prefix import ids_of, prefix_of
from services.mesh.topics import DECISIONS, LABELS, OUTCOMES, OUTCOMES_ORPHAN, OUTCOMES_RAW, Topic

Read = Callable[[Topic, Mapping[int, int] | None], Iterable[Any]]


@dataclass(slots=True, kw_only=True)
class OutcomeLedger:
    """What the log holds of outcomes."""

    outcomes_in: int = 0
    accepted: int = 0
    labels: int = 0  # records, of all versions
    matured: int = 0  # of these, without an outcome
    joined: int = 0  # outcomes
    orphans: Counter[str] = field(default_factory=Counter)
    pending: int = 0  # may still be waiting: for their event, for what they reverse, or for feedback to come to them
    unjudged: int = 0  # in outcomes.raw.v1, and not yet looked at by ingestion
    lost: int = 0  # accepted, taken by feedback, their event decided: and nowhere
    doubled: int = 0  # in two places, or in one twice
    strangers: int = 0  # joined or orphaned and never accepted
    unreadable: int = 0  # records that are not what their topic holds

    @property
    def is_good(self) -> bool:
        """Whether the promise holds."""
        return not (self.lost or self.doubled or self.strangers)


def settle_outcomes(
    read: Read, unfinished: Mapping[str, Mapping[int, int]], decided: Container[bytes]
) -> OutcomeLedger:
    """The account. ``decided``: prefixes (see ``mesh/prefix.py``) of the decisions that were there before this call.

    ``unfinished``: by topic and partition, the offset that its stage has committed; taken before this call.
    """
    ledger = OutcomeLedger()
    said: dict[bytes, set[bytes]] = {}  # event -> outcomes joined to it
    places: dict[bytes, bool] = {}  # outcome -> whether it was met in outcomes.v1
    _read_labels(read, ledger, said, places)
    _read_orphans(read, ledger, places)
    new = {_prefix(m.value()) for m in read(DECISIONS, unfinished.get(DECISIONS.name, {}))}
    taken = unfinished.get(OUTCOMES.name, {})
    for message, outcome in _decoded(read, OUTCOMES, "payments/outcome.v1.avsc", ledger):
        identity = identity_of(outcome["customer_id"], outcome["outcome_id"])
        event = _prefix(message.value(), skipped_texts=1)
        if places.get(identity) is not None:
            ledger.accepted += not places[identity]
            places[identity] = True
            continue
        places[identity] = True
        ledger.accepted += 1
        revises = outcome["revises"]
        is_revision_known = revises is None or identity_of(outcome["customer_id"], revises) in said.get(event, ())
        may_wait = event not in decided or event in new or not is_revision_known
        if may_wait or message.offset() >= taken.get(message.partition(), 0):
            ledger.pending += 1
        else:
            ledger.lost += 1
    ledger.strangers = sum(1 for was_met in places.values() if not was_met)
    judged = unfinished.get(OUTCOMES_RAW.name, {})
    for message in read(OUTCOMES_RAW, None):
        ledger.outcomes_in += find(message.headers() or (), WEIR) is None
        ledger.unjudged += message.offset() >= judged.get(message.partition(), 0)
    return ledger


def _read_labels(read: Read, ledger: OutcomeLedger, said: dict[bytes, set[bytes]], places: dict[bytes, bool]) -> None:
    for message, label in _decoded(read, LABELS, "labelled.v1.avsc", ledger):
        ledger.labels += 1
        if label["outcome_id"] is None:
            ledger.matured += 1
            continue
        identity = identity_of(label["customer_id"], label["outcome_id"])
        said.setdefault(_prefix(message.value()), set()).add(identity)
        ledger.joined += 1
        ledger.doubled += identity in places
        places[identity] = False


def _read_orphans(read: Read, ledger: OutcomeLedger, places: dict[bytes, bool]) -> None:
    for _, orphan in _decoded(read, OUTCOMES_ORPHAN, "outcome_orphan.v1.avsc", ledger):
        identity = identity_of(orphan["customer_id"], orphan["outcome_id"])
        ledger.orphans[orphan["orphan_reason"]] += 1
        ledger.doubled += identity in places
        places[identity] = False


def _decoded(read: Read, topic: Topic, schema_file: str, ledger: OutcomeLedger) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Messages and what they hold; anybody can write to a topic, so some may hold something else."""
    codec = Codec(schema_file)
    for message in read(topic, None):
        try:
            yield message, codec.decode(message.value())
        except Poison:
            ledger.unreadable += 1


def _prefix(value: bytes | None, skipped_texts: int = 0) -> bytes:
    """The ids of the event that a record is about, as they lie there; empty when it has none."""
    try:
        start = HEADER_BYTES
        for _ in range(skipped_texts):
            text, _ = ids_of(value or b"", start)
            start += len(text) + (1 if len(text) < 64 else 2)  # at most 128 characters: 512 bytes
        return prefix_of(value or b"", start)
    except ValueError:
        return b""
