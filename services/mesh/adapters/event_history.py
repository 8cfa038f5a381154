"""Everything that the log holds about one event: by the index, by a look at what this has not read yet, and on its way.

Both the command line and the console tell it from here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from services.mesh.adapters.kafka_messages import record_of
from services.mesh.adapters.log_reader import LogReader
from services.mesh.adapters.lookup_reader import IndexReader
from services.mesh.codec import HEADER_BYTES
from services.mesh.hops import BACKWARDS, dead_letter, label, orphan, outcome, walk_back
from services.mesh.lookup_entries import INDEXED, Place, ids_in
from services.mesh.ports import InRecord
from services.mesh.prefix import ids_of
from services.mesh.topics import DEAD_LETTERS, DECISIONS, LABELS, OUTCOMES_ORPHAN, UPDATES_TERMINAL

Committed = Callable[[], Mapping[str, Mapping[int, int]]]
"""Asks for each stage's input topics, by partition, which offset its group has committed."""


def event_history(
    log: LogReader, index: Path, event_id: str, customer_id: str | None, committed: Committed
) -> list[dict[str, Any]]:
    """One entry for each customer who has an event of that id: ``customer_id``, ``hops``, ``dead_letters``,
    ``outcomes``, ``labels``, ``orphans``; empty when it was neither accepted nor refused.

    Raises Transient; Fatal when there is no index.
    """
    events = _events(log, _find(log, index, event_id, customer_id))
    if not any(event["hops"] or event["dead_letters"] for event in events):
        events += _on_the_way(log, committed(), event_id, customer_id)
    return events


def _find(log: LogReader, file: Path, event_id: str, customer_id: str | None) -> list[InRecord]:
    """Its decisions, dead letters and outcomes: by the index, and by a look at the tail that this has not read yet."""
    # Ends before progress: what is indexed meanwhile is then found there, and nothing falls in between.
    ends = log.ends(*INDEXED)
    with IndexReader(file) as index:
        progress = index.progress()
        places = index.find(event_id, customer_id)
    starts = log.starts(*INDEXED)
    tail = {where: max(progress.get(where, 0), starts[where]) for where in ends}
    kept = (place for place in places if place.offset >= starts[place.topic, place.partition])
    indexed = (record for place in kept if (record := log.one(place)) is not None)
    found: dict[Place, InRecord] = {}
    for record in itertools.chain(indexed, log.read(tail, ends)):
        if _is_about(record, event_id, customer_id):
            found[Place(record.topic, record.partition, record.offset)] = record
    return list(found.values())


def _is_about(record: InRecord, event_id: str, customer_id: str | None) -> bool:
    ids = ids_in(record.topic, record.value, record.headers)
    if ids is None or ids.event_id != event_id.encode():
        return False
    return customer_id is None or ids.customer_id in (None, customer_id.encode())


def _events(log: LogReader, records: Iterable[InRecord]) -> list[dict[str, Any]]:
    """What was found, by customer."""
    events: dict[str | None, dict[str, Any]] = {}
    for record in sorted(records, key=lambda r: r.append_time_ms):
        ids = ids_in(record.topic, record.value, record.headers)
        assert ids is not None
        customer_id = None if ids.customer_id is None else ids.customer_id.decode(errors="replace")
        event = events.setdefault(customer_id, _event(customer_id))
        if record.topic == DECISIONS.name:
            event["hops"] += walk_back(log, record, BACKWARDS)
        elif record.topic == DEAD_LETTERS.name:
            event["dead_letters"].append(dead_letter(record))
        elif record.topic == LABELS.name:
            event["labels"].append(label(record))
        elif record.topic == OUTCOMES_ORPHAN.name:
            event["orphans"].append(orphan(record))
        else:
            event["outcomes"].append(outcome(record))
    return list(events.values())


def _on_the_way(
    log: LogReader, committed: Mapping[str, Mapping[int, int]], event_id: str, customer_id: str | None
) -> list[dict[str, Any]]:
    """The event where a stage has still to take it: only what lies behind the stages' offsets is read."""
    wanted = event_id.encode()
    events = []
    for position, topic in enumerate(BACKWARDS[1:-1], 1):
        ends = log.ends(topic)
        first = {where: committed[topic.name].get(where[1], 0) for where in ends}
        payload = HEADER_BYTES + (topic is UPDATES_TERMINAL)  # behind the union's branch
        for batch in log.batches(first, ends):
            for message in batch:
                found, customer = ids_of(message.value() or b"", payload)
                if found == wanted and (customer_id is None or customer == customer_id.encode()):
                    hops = walk_back(log, record_of(message), BACKWARDS[position:])
                    events.append(_event(customer.decode()) | {"hops": hops})
    return events


def _event(customer_id: str | None) -> dict[str, Any]:
    return {"customer_id": customer_id, "hops": [], "dead_letters": [], "outcomes": [], "labels": [], "orphans": []}
