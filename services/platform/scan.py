"""An independent look at the whole log: what came in, what was accepted, and whether each has exactly one decision.

It trusts no counter: it reads every topic read_committed and compares identities.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from services.mesh.adapters.kafka_reader import FROM_FIRST, reader_settings
from services.mesh.codec import HEADER_BYTES
from services.mesh.errors import Transient
from services.mesh.headers import WEIR, find
from services.mesh.prefix import prefix_of
from services.mesh.topics import (
    DEAD_LETTERS,
    DECISIONS,
    EVENTS,
    EVENTS_RAW,
    FEATURES,
    SCORES,
    UPDATES_TERMINAL,
    Topic,
)
from services.platform.outcome_account import OutcomeLedger, settle_outcomes

_BATCH_RECORDS_MAX = 10_000
_BATCH_WAIT_S = 0.1
_LIST_WAIT_S = 10.0
_SILENCE_S_MAX = 30.0  # a broker that answers nothing for so long is away
# Between two stages: an accepted event whose record is here, and has no decision, is on its way, not missing.
_ON_THE_WAY = (EVENTS, UPDATES_TERMINAL, FEATURES, SCORES)
_UNION_BRANCH_BYTES = 1  # updates.terminal.v1 carries a union, whose branch comes before the ids


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What the log holds."""

    events_in: int = 0
    rekeyed: int = 0  # sent once more by ingestion under their right key
    accepted: int = 0  # identities
    decisions: int = 0
    missing: int = 0
    duplicates: int = 0  # decisions beyond the first of an event
    strangers: int = 0  # decided identities that were never accepted
    unreadable: int = 0  # records of events.v1 or decisions.v1 that do not even begin like one
    dead_letters: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    undecided: int = 0  # accepted, and on the way to a decision
    unjudged: int = 0  # in events.raw.v1, and not yet looked at by ingestion
    raw_rejects: int = 0  # dead letters that ingestion made
    outcomes: OutcomeLedger | None = None  # None: there was no time to read them

    @property
    def is_wrong(self) -> bool:
        """Whether a promise was broken."""
        is_lossy = self.outcomes is not None and not self.outcomes.is_good
        return is_lossy or bool(self.missing or self.duplicates or self.strangers)


class OutOfTime(Transient):
    """The deadline of a scan has passed."""


# Every committed record of a topic, as confluent-kafka's messages; with offsets by partition: only those, from there.
Read = Callable[[Topic, Mapping[int, int] | None], Iterable[Any]]


def scan(bootstrap: str, unfinished: Mapping[str, Mapping[int, int]], deadline_s: float | None = None) -> Ledger:
    """Read the log and settle the account.

    ``unfinished``: for each topic between two stages, by partition, the offset that its stage has committed; records at
    or behind it are on their way. When ``deadline_s`` (monotonic) passes first, that is OutOfTime; where only outcomes
    were left to read, theirs is the part of the account that is missing. Raises Transient.

    While stages run: take ``unfinished`` before the call. Decisions are read before the events they were made of, so
    that what is accepted and decided meanwhile is on its way, and neither missing nor a stranger.
    """

    def read(topic: Topic, starts: Mapping[int, int] | None) -> Iterator[Any]:
        return committed_records(bootstrap, topic, starts, deadline_s)

    return settle(read, unfinished)


def settle(read: Read, unfinished: Mapping[str, Mapping[int, int]]) -> Ledger:
    """The account itself; see ``scan``."""
    ledger = Ledger()
    decided: dict[bytes, int] = {}
    for identity in _identities(read, DECISIONS, ledger):
        decided[identity] = decided.get(identity, 0) + 1
    ledger.decisions = sum(decided.values())
    ledger.duplicates = ledger.decisions - len(decided)
    open_ones: set[bytes] = set()
    for identity in _identities(read, EVENTS, ledger):
        if identity not in decided:
            open_ones.add(identity)
        elif decided[identity]:
            decided[identity] = 0  # met
            ledger.accepted += 1
    ledger.accepted += len(open_ones)
    ledger.strangers = sum(1 for count in decided.values() if count)
    if open_ones:
        ledger.undecided = len(open_ones & _on_the_way(read, unfinished))
        ledger.missing = len(open_ones) - ledger.undecided
    _count_dead_letters(read, ledger)
    _count_raw(read, ledger, unfinished.get(EVENTS_RAW.name, {}))
    with suppress(OutOfTime):
        ledger.outcomes = settle_outcomes(read, unfinished, decided)
    return ledger


def _identities(read: Read, topic: Topic, ledger: Ledger) -> Iterator[bytes]:
    """The identity of every record; anybody can write to a topic, so some may have none."""
    for message in read(topic, None):
        try:
            yield prefix_of(message.value() or b"")
        except ValueError:
            ledger.unreadable += 1


def _count_raw(read: Read, ledger: Ledger, judged: Mapping[int, int]) -> None:
    """Count what came in, what ingestion sent once more under its right key, and what it has not judged yet."""
    for message in read(EVENTS_RAW, None):
        if find(message.headers() or (), WEIR) is None:
            ledger.events_in += 1
        else:
            ledger.rekeyed += 1
        ledger.unjudged += message.offset() >= judged.get(message.partition(), 0)


def _count_dead_letters(read: Read, ledger: Ledger) -> None:
    """Count them by code."""
    for message in read(DEAD_LETTERS, None):
        headers = message.headers() or ()
        ledger.dead_letters += 1
        ledger.rejects[(find(headers, "error_code") or b"?").decode(errors="replace")] += 1
        ledger.raw_rejects += find(headers, "origin_topic") == EVENTS_RAW.name.encode()


def _on_the_way(read: Read, unfinished: Mapping[str, Mapping[int, int]]) -> set[bytes]:
    """Identities of the records that their stage has not committed."""
    found = set()
    for topic in _ON_THE_WAY:
        start = HEADER_BYTES + (_UNION_BRANCH_BYTES if topic is UPDATES_TERMINAL else 0)
        for message in read(topic, unfinished.get(topic.name, {})):
            try:
                found.add(prefix_of(message.value() or b"", start))
            except ValueError:
                continue  # its stage will refuse it; no accepted event is in it
    return found


def committed_records(
    bootstrap: str, topic: Topic, starts: Mapping[int, int] | None, deadline_s: float | None
) -> Iterator[Any]:
    """See ``Read``; to where the end of each partition is now, once no transaction is open there.

    Raises Transient; OutOfTime when ``deadline_s`` passes first.
    """
    consumer = Consumer(reader_settings(bootstrap, "weir.scan") | {"queued.min.messages": 100_000})
    try:
        partitions = consumer.list_topics(topic.name, timeout=_LIST_WAIT_S).topics[topic.name].partitions
        wanted = {p: FROM_FIRST if starts is None else starts[p] for p in partitions if starts is None or p in starts}
        consumer.assign([TopicPartition(topic.name, p, offset) for p, offset in wanted.items()])
        waiting = set(wanted)
        heard_s = time.monotonic()
        while waiting:
            now_s = time.monotonic()
            if deadline_s is not None and now_s > deadline_s:
                raise OutOfTime(f"{topic.name} was not read to its end in the time there was")
            if now_s - heard_s > _SILENCE_S_MAX:
                raise Transient(f"reading {topic.name}: nothing for {_SILENCE_S_MAX:.0f} s; is the broker up?")
            for message in consumer.consume(_BATCH_RECORDS_MAX, _BATCH_WAIT_S):
                heard_s = now_s
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF and _is_end(consumer, message):
                    waiting.discard(message.partition())
    except KafkaException as error:
        raise Transient(f"reading {topic.name}: {error}") from error
    finally:
        consumer.close()


def _is_end(consumer: Any, message: Any) -> bool:
    """An open transaction ends a partition too, for a while; what is behind it is not missing."""
    where = TopicPartition(message.topic(), message.partition())
    _, end = consumer.get_watermark_offsets(where, cached=True)
    return bool(message.offset() >= end)
