"""A bare hop: the mesh's own runtime and log around a handler that copies bytes. What is left is what a hop must cost.

``WEIR_BARE_HOP=3 WEIR_BARE_BYTES=300 python -m loadtests.bare_hop`` reads ``bare.2``, writes ``bare.3`` with values of
300 bytes. The first hop prepends the raw append time, so that the far end can tell how long the chain took; everything
else is the input's own: key, headers, and as many of its bytes as fit.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence

from services.mesh.adapters.process import Parts, run_stage
from services.mesh.headers import TRACEPARENT
from services.mesh.ports import InRecord
from services.mesh.settings import Environment
from services.mesh.stage import Emit, Handler, Stateless
from services.mesh.topics import Topic
from services.mesh.topology import Stage

HOPS = 5  # as many as the mesh has stages; a test compares
_APPEND_TIME = struct.Struct("<q")
_ID_START = len(b'{"event_id":"')
# As long as the one that ingestion puts on every record.
_TRACE = b"00-" + b"1" * 32 + b"-" + b"1" * 16 + b"-00"


def bare_topic(number: int) -> Topic:
    """The topic after hop ``number``; 0 is the chain's input."""
    return Topic(name=f"bare.{number}", holds="bytes on their way", schemas=(), key="customer_id", owner="loadtests")


def bare_stage(number: int) -> Stage:
    """Hop ``number``, counted from 1."""
    return Stage(
        name=f"bare-{number}",
        service="loadtests",
        consumes=bare_topic(number - 1),
        produces=(bare_topic(number),),
        marked=number > 1,
    )


def read_bare(value: bytes) -> tuple[bytes, int]:
    """event_id and raw append time of a record that has passed the first hop."""
    start = _APPEND_TIME.size + _ID_START
    return value[start : value.index(b'"', start)], _APPEND_TIME.unpack_from(value)[0]


def resized(value: bytes, size: int) -> bytes:
    """``value`` cut, or filled up, to ``size`` bytes."""
    return value[:size] if len(value) >= size else value + bytes(size - len(value))


class CopyHandler(Stateless):
    """Passes every record on."""

    def __init__(self, number: int, size_bytes: int) -> None:
        self._topic = bare_topic(number).name
        self._first = number == 1
        self._size_bytes = size_bytes

    def step(self, batch: Sequence[InRecord]) -> list[Emit]:
        """One emit for each record, in their order."""
        if self._first:
            return [self._stamped(record, source) for source, record in enumerate(batch)]
        size = self._size_bytes
        return [
            Emit(self._topic, record.key, resized(record.value or b"", size), None, source)
            for source, record in enumerate(batch)
        ]

    def _stamped(self, record: InRecord, source: int) -> Emit:
        value = resized(_APPEND_TIME.pack(record.append_time_ms) + (record.value or b""), self._size_bytes)
        return Emit(self._topic, record.key, value, None, source, ((TRACEPARENT, _TRACE),))


def wire(parts: Parts, environment: Environment) -> Callable[[], Handler]:
    """Nothing to meet but the log."""
    del parts
    number = environment.integer("WEIR_BARE_HOP", None, 1, HOPS)
    size_bytes = environment.integer("WEIR_BARE_BYTES", 200, 64)
    environment.check()
    return lambda: CopyHandler(number, size_bytes)


if __name__ == "__main__":
    # wire() tells a missing number in words
    run_stage(bare_stage(int(os.environ.get("WEIR_BARE_HOP", "1"))), wire)
