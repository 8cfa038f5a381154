"""An independent look at the whole log: what came in, what was accepted, and whether each has exactly one decision.

It trusts no counter: it reads every topic read_committed and compares identities.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from services.mesh.adapters.kafka_reader import reader_settings
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
    OUTCOMES_RAW,
    SCORES,
    UPDATES_TERMINAL,
    Topic,
)

_BATCH_RECORDS_MAX = 10_000
# Between two stages: an accepted event whose record is here, and has no decision, is on its way, not missing.
_ON_THE_WAY = (EVENTS, UPDATES_TERMINAL, FEATURES, SCORES)


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What the log holds."""

    events_in: int = 0
    rekeyed: int = 0
    outcomes_in: int = 0
    accepted: int = 0
    decisions: int = 0
    missing: int = 0
    duplicates: int = 0  # decisions beyond the first of an event
    strangers: int = 0  # decisions of events that were never accepted
    dead_letters: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    undecided: int = 0  # accepted, and on the way to a decision
    unjudged: int = 0  # in events.raw.v1, and not yet looked at by ingestion
    raw_rejects: int = 0  # dead letters that ingestion made


def scan(bootstrap: str, unfinished: Mapping[str, Mapping[int, int]], deadline_s: float | None = None) -> Ledger:
    """Read the log and settle the account.

    ``unfinished``: for each topic between two stages, by partition, the offset that its stage has committed; records at
    or behind it are on their way. Raises Transient when ``deadline_s`` (monotonic) passes first.
    """
    ledger = Ledger()
    accepted: Counter[bytes] = Counter()
    for message in _records(bootstrap, EVENTS, deadline_s):
        accepted[prefix_of(message.value())] += 1
    ledger.accepted = len(accepted)
    decided: Counter[bytes] = Counter(prefix_of(m.value()) for m in _records(bootstrap, DECISIONS, deadline_s))
    ledger.decisions = sum(decided.values())
    ledger.duplicates = ledger.decisions - len(decided)
    ledger.strangers = len(decided.keys() - accepted.keys())
    open_ones = accepted.keys() - decided.keys()
    refused = _count_dead_letters(bootstrap, ledger, deadline_s)
    if open_ones:
        on_the_way = _on_the_way(bootstrap, unfinished, deadline_s)
        ledger.undecided = len(open_ones & on_the_way)
        ledger.missing = len(open_ones - on_the_way - refused)
    _count_raw(bootstrap, ledger, unfinished.get(EVENTS_RAW.name, {}), deadline_s)
    ledger.outcomes_in = sum(1 for _ in _records(bootstrap, OUTCOMES_RAW, deadline_s))
    return ledger


def _count_raw(bootstrap: str, ledger: Ledger, judged: Mapping[int, int], deadline_s: float | None) -> None:
    """Count what came in, what ingestion sent once more under its right key, and what it has not judged yet."""
    for message in _records(bootstrap, EVENTS_RAW, deadline_s):
        if find(message.headers() or (), WEIR) is None:
            ledger.events_in += 1
        else:
            ledger.rekeyed += 1
        ledger.unjudged += message.offset() >= judged.get(message.partition(), 0)


def _count_dead_letters(bootstrap: str, ledger: Ledger, deadline_s: float | None) -> set[bytes]:
    """Count them by code; identities of accepted events that a later stage refused."""
    refused = set()
    for message in _records(bootstrap, DEAD_LETTERS, deadline_s):
        headers = message.headers() or ()
        ledger.dead_letters += 1
        ledger.rejects[(find(headers, "error_code") or b"?").decode()] += 1
        origin = find(headers, "origin_topic")
        ledger.raw_rejects += origin == EVENTS_RAW.name.encode()
        if origin == EVENTS.name.encode():
            with suppress(ValueError):  # it may have been refused because it does not even begin like an event
                refused.add(prefix_of(message.value() or b""))
    return refused


def _on_the_way(bootstrap: str, unfinished: Mapping[str, Mapping[int, int]], deadline_s: float | None) -> set[bytes]:
    found = set()
    for topic in _ON_THE_WAY:
        starts = unfinished.get(topic.name, {})
        if not starts:
            continue
        skip = 1 if topic is UPDATES_TERMINAL else 0  # the union's branch
        for message in _records(bootstrap, topic, deadline_s, starts):
            found.add(prefix_of(message.value(), HEADER_BYTES + skip))
    return found


def _records(
    bootstrap: str, topic: Topic, deadline_s: float | None, starts: Mapping[int, int] | None = None
) -> Iterator[Any]:
    """Every committed record of ``topic``, to where its end is now."""
    consumer = Consumer(reader_settings(bootstrap, "weir.scan") | {"queued.min.messages": 100_000})
    try:
        partitions = consumer.list_topics(topic.name, timeout=10).topics[topic.name].partitions
        wanted = {
            p: OFFSET_BEGINNING if starts is None else starts[p] for p in partitions if starts is None or p in starts
        }
        consumer.assign([TopicPartition(topic.name, p, offset) for p, offset in wanted.items()])
        waiting = set(wanted)
        while waiting:
            if deadline_s is not None and time.monotonic() > deadline_s:
                raise Transient(f"the scan of {topic.name} did not end in time: run `weir status --verify`")
            for message in consumer.consume(_BATCH_RECORDS_MAX, 0.2):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard(message.partition())
    except KafkaException as error:
        raise Transient(f"reading {topic.name}: {error}") from error
    finally:
        consumer.close()
