"""The two headers of every data-plane record: ``traceparent`` (W3C) and one packed ``weir``.

One header instead of six because each costs more than a microsecond a hop. Layout of ``weir``, little-endian:
version u8, origin partition u16, origin offset i64, previous partition u16, previous offset i64, ordinal u16.
*Origin* is the record in ``events.raw.v1``; *previous* is the record that the producing stage was handed; *ordinal*
counts that stage's outputs for it. Where two stages write one topic, their previous partitions would collide in its
readers' watermarks, so each stage has a *lane* (``topology.py``), carried in the previous partition's upper bits; a
stage with several inputs has as many lanes in a row, the first for its first input.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from services.mesh.errors import Poison, RejectCode
from services.mesh.ports import LANE, Header

__all__ = ["LANE", "TRACEPARENT", "WEIR", "Hop", "find", "pack_hop", "traceparent_of", "unpack_hop"]

WEIR = "weir"
TRACEPARENT = "traceparent"
_VERSION = 1
_LAYOUT = struct.Struct("<BHqHqH")
_BEHIND_VERSION = struct.Struct("<xHqHqH")


class Hop(NamedTuple):
    """Where a record comes from."""

    origin_partition: int
    origin_offset: int
    previous_partition: int  # lane * LANE + partition
    previous_offset: int
    ordinal: int

    @property
    def previous_partition_number(self) -> int:
        """The previous partition without its lane."""
        return self.previous_partition % LANE


def pack_hop(hop: Hop) -> bytes:
    """``hop`` as the value of the ``weir`` header."""
    return _LAYOUT.pack(_VERSION, *hop)


def pack_parts(
    origin_partition: int, origin_offset: int, previous_partition: int, previous_offset: int, ordinal: int
) -> bytes:
    """The same from a hop's parts: every output of every stage passes here, and has no use for the tuple."""
    return _LAYOUT.pack(_VERSION, origin_partition, origin_offset, previous_partition, previous_offset, ordinal)


def unpack_hop(value: bytes) -> Hop:
    """The ``weir`` header's meaning; Poison when it is not one of ours."""
    if len(value) != _LAYOUT.size or value[0] != _VERSION:
        raise Poison(
            RejectCode.UNDECODABLE,
            f"header weir={value.hex()}: not {_LAYOUT.size} bytes of version {_VERSION}; was it produced by a stage?",
            WEIR,
        )
    return Hop._make(_BEHIND_VERSION.unpack(value))


def find(headers: Sequence[Header], name: str) -> bytes | None:
    """Value of the first header called ``name``; None when there is none."""
    for key, value in headers:
        if key == name:
            return value
    return None


def traceparent_of(identity: bytes) -> bytes:
    """A W3C traceparent whose trace id is the event's 16-byte identity hash: anyone can find a trace from the ids.

    Not sampled (flags 00) until an exporter says otherwise; the parent id is the identity's second half.
    """
    return f"00-{identity.hex()}-{identity[8:].hex()}-00".encode()
