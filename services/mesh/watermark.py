"""The second line of defence: what a partition has already taken from each partition of the previous hop.

Kafka's transactions are the first. Where they leak (a delayed commit on the old protocol, KIP-890), a repeat shows as
a pair (offset that triggered, ordinal among its outputs) that is not above the last one taken from that partition; it
is dropped. The marks travel in the metadata of the offset commit, hence are atomic with the outputs.
"""

from __future__ import annotations

from base64 import b64decode, b64encode

from services.mesh.errors import Fatal
from services.mesh.headers import Hop

METADATA_BYTES_MAX = 4096  # broker default offset.metadata.max.bytes
# One mark at its worst: partition below 2^14 (2) + offset below 2^63 (9) + ordinal below 2^14 (2), and base64's 4/3.
_MARK_BYTES_MAX = 13
_FORMAT = b"\x01"
# Writers of one topic, each input of a writer on its own: events from features, and labels from feedback, which sends
# them because of a decision or because of an outcome, share updates.terminal.v1.
LANES_MAX = 3


class Marks:
    """Highest (offset, ordinal) taken so far from each partition of the previous hop."""

    __slots__ = ("_taken",)

    def __init__(self, taken: dict[int, tuple[int, int]] | None = None) -> None:
        self._taken = dict(taken or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Marks) and self._taken == other._taken

    def __repr__(self) -> str:
        return f"Marks({self._taken})"

    def admit(self, hop: Hop) -> bool:
        """Take the record of ``hop`` unless it, or a later one, was taken before."""
        taken = self._taken.get(hop.previous_partition)
        mark = (hop.previous_offset, hop.ordinal)
        if taken is not None and mark <= taken:
            return False
        self._taken[hop.previous_partition] = mark
        return True

    def copy(self) -> Marks:
        """An independent copy."""
        return Marks(self._taken)

    def to_metadata(self) -> str:
        """Marks as base64 varints: small enough for the broker's 4,096 bytes (see ``check_partitions``)."""
        if not self._taken:
            return ""
        out = bytearray(_FORMAT)
        for partition in sorted(self._taken):
            offset, ordinal = self._taken[partition]
            for number in (partition, offset, ordinal):
                _put_varint(out, number)
        return b64encode(bytes(out)).decode()

    @classmethod
    def from_metadata(cls, metadata: str) -> Marks:
        """The reverse of ``to_metadata``; Fatal when somebody else wrote the group's metadata."""
        if not metadata:
            return cls()
        try:
            data = b64decode(metadata, validate=True)
            if data[:1] != _FORMAT:
                raise ValueError("unknown format")
            numbers = _varints(data[1:])
            if len(numbers) % 3:
                raise ValueError("cut short")
        except (ValueError, IndexError) as error:
            raise Fatal(
                f"offset metadata {metadata[:40]!r}: {error}; was this group's offset committed by another tool? "
                "reset it with an empty metadata to go on without the second line of defence"
            ) from error
        return cls({p: (o, n) for p, o, n in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)})


def check_partitions(partitions: int, lanes: int = LANES_MAX) -> None:
    """Refuse a partition count whose marks could outgrow the broker's limit on offset metadata."""
    worst_bytes = (1 + partitions * lanes * _MARK_BYTES_MAX + 2) // 3 * 4
    if worst_bytes > METADATA_BYTES_MAX:
        most = (METADATA_BYTES_MAX // 4 * 3 - 1) // (_MARK_BYTES_MAX * lanes)
        raise Fatal(
            f"partitions={partitions}: watermarks could take {worst_bytes} bytes of offset metadata, the broker allows "
            f"{METADATA_BYTES_MAX}; use at most {most} partitions"
        )


def _put_varint(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(0x80 | (number & 0x7F))
        number >>= 7
    out.append(number)


def _varints(data: bytes) -> list[int]:
    numbers, number, shift = [], 0, 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            numbers.append(number)
            number, shift = 0, 0
    if shift:
        raise ValueError("cut short")
    return numbers
