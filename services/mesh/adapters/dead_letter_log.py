"""Dead letters: the newest, one by its place, whole, and sending them once more after the cause is mended.

Both the command line and the console do it from here.
"""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaException, Producer

from services.mesh.adapters.log_reader import LogReader, Offsets
from services.mesh.errors import Fatal, Transient
from services.mesh.headers import WEIR
from services.mesh.hops import CAUSE_HEADERS, cause_of
from services.mesh.lookup_entries import Place, ids_in
from services.mesh.ports import Header, InRecord
from services.mesh.topics import DEAD_LETTER_BYTES_MAX, DEAD_LETTERS, EVENTS_RAW, OUTCOMES_RAW

# What a later stage refused would skip the stages before it: the log is replayed instead.
RAW_TOPICS = frozenset({EVENTS_RAW.name, OUTCOMES_RAW.name})
_STRETCH = 2_000  # offsets looked at in one step backwards
_IN_FLIGHT_MAX = 10_000
_FLUSH_S_MAX = 30.0


def original_headers(headers: list[Header]) -> list[Header]:
    """The sender's own headers: without the cause, which stands behind them, and without marks of our stages."""
    own = list(headers)
    while own and own[-1][0] in CAUSE_HEADERS:
        own.pop()
    return [(name, value) for name, value in own if name != WEIR]


class DeadLetterSender:
    """Produces and waits for every acknowledgement."""

    def __init__(self, kafka: str) -> None:
        settings = {
            "bootstrap.servers": kafka,
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "message.max.bytes": DEAD_LETTER_BYTES_MAX,
            "linger.ms": 20,
        }
        self._producer = Producer(settings)
        self._failure = ""

    def send(self, topic: str, record: InRecord) -> None:
        """Hand one record over."""
        headers: Any = original_headers(list(record.headers))
        while len(self._producer) >= _IN_FLIGHT_MAX:
            self._producer.poll(0.1)
        self._producer.produce(topic, record.value, record.key, headers=headers, on_delivery=self._delivered)
        self._producer.poll(0)

    def finish(self) -> None:
        """Wait for the broker; Transient when it did not take everything."""
        try:
            waiting = self._producer.flush(_FLUSH_S_MAX)
        except KafkaException as error:
            raise Transient(f"sending once more: {error}") from error
        if waiting or self._failure:
            raise Transient(f"sending once more: {self._failure or f'{waiting} not acknowledged'}; do it again")

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failure = self._failure or error.str()


def newest(log: LogReader, code: str | None, limit: int) -> list[InRecord]:
    """The newest ``limit`` by append time, looking backwards in stretches until no older one can be among them."""
    starts, lasts = log.starts(DEAD_LETTERS), log.ends(DEAD_LETTERS)
    found: list[InRecord] = []
    open_ones = {where for where, end in lasts.items() if end > starts[where]}
    while open_ones:
        firsts: Offsets = {where: max(starts[where], lasts[where] - _STRETCH) for where in open_ones}
        oldest_ms: dict[tuple[str, int], int] = {}
        for record in log.read(firsts, {where: lasts[where] for where in open_ones}):
            oldest_ms.setdefault((record.topic, record.partition), record.append_time_ms)
            if code is None or cause_of(record)["error_code"] == code:
                found.append(record)
        found = sorted(found, key=lambda r: (-r.append_time_ms, r.partition, -r.offset))[:limit]
        lasts = lasts | firsts
        enough_ms = found[-1].append_time_ms if len(found) == limit else -1
        open_ones = {
            where
            for where in open_ones
            if firsts[where] > starts[where] and oldest_ms.get(where, enough_ms) >= enough_ms
        }
    return found


def dead_letter_at(log: LogReader, place: Place) -> InRecord:
    """The dead letter at ``place``; Fatal when none lies there."""
    end = log.ends(DEAD_LETTERS).get((place.topic, place.partition), 0)
    record = log.one(place) if place.offset < end else None
    if record is None:
        raise Fatal(
            f"{place.partition}:{place.offset}: no dead letter lies there (it may be past retention, or a marker of a "
            "transaction); `weir dead-letters list` prints them"
        )
    return record


def described(record: InRecord) -> dict[str, Any]:
    """One dead letter as JSON takes it: where, when, why, whose, and what its sender wrote."""
    ids = ids_in(DEAD_LETTERS.name, record.value, record.headers)
    return {
        "partition": record.partition,
        "offset": record.offset,
        "append_time_ms": record.append_time_ms,
        "cause": cause_of(record),
        "event_id": _text(ids.event_id) if ids else None,
        "customer_id": _text(ids.customer_id) if ids else None,
        "key": _text(record.key),
        "headers": [[name, _text(value)] for name, value in original_headers(list(record.headers))],
        "value": _text(record.value) or "",
        "value_hex": None if record.value is None else record.value.hex(),
    }


def _text(value: bytes | None) -> str | None:
    """Text where it is text, else as Python would write the bytes."""
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return repr(value)
    return text if text.isprintable() else repr(value)
