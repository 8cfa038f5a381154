"""The ids and the time at the start of every data-plane record, read without decoding the rest.

Every record between stages begins with ``event_id``, ``customer_id``, ``terminal_id`` and ``event_time_ms`` (see
``codec.Extension``): a zigzag varint with the length and the text, three times, and a zigzag varint. Scans and indexes
of a whole log need no more, at a tenth of the price.
"""

from __future__ import annotations

from services.mesh.codec import HEADER_BYTES


def ids_of(value: bytes, start: int = HEADER_BYTES) -> tuple[bytes, bytes]:
    """event_id and customer_id in UTF-8, from the first byte of the payload (behind a union's branch, if any).

    Raises ValueError when ``value`` does not begin like that.
    """
    event_id, end = _text(value, start)
    customer_id, _ = _text(value, end)
    return event_id, customer_id


def prefix_of(value: bytes, start: int = HEADER_BYTES) -> bytes:
    """Both ids with their lengths, as they lie there: equal exactly when the identities are."""
    _, middle = _text(value, start)
    _, end = _text(value, middle)
    return value[start:end]


def event_time_ms_of(value: bytes, start: int = HEADER_BYTES) -> int:
    """event_time_ms, as ``ids_of`` finds its ids. Raises ValueError when ``value`` does not begin like that."""
    position = start
    for _ in range(3):
        _, position = _text(value, position)
    try:
        number, _ = _long(value, 0, position, 0)
    except IndexError:
        raise ValueError(f"{len(value)} bytes end before the event's time does") from None
    return (number >> 1) ^ -(number & 1)


def _text(value: bytes, position: int) -> tuple[bytes, int]:
    try:
        number = value[position]
        position += 1
        if number >= 0x80:
            number, position = _long(value, number & 0x7F, position, 7)
    except IndexError:
        raise ValueError(f"{len(value)} bytes end before the ids do") from None
    end = position + (number >> 1)  # zigzag: a length is not negative
    if number & 1 or end > len(value):
        raise ValueError(f"a text of {number >> 1} bytes at byte {position} of {len(value)}")
    return value[position:end], end


def _long(value: bytes, number: int, position: int, shift: int) -> tuple[int, int]:
    while True:
        byte = value[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
