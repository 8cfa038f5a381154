"""An entity's state as one string in the store.

    header   magic, mark of view and feature set, counts, checksum over all up to the end of the first entries
    tiles    48 bytes each, oldest first
    entries  16 bytes each (24 in a view that keeps amounts and labels): those kept when the value was written whole,
             ascending by time, then one for each later change in arrival order

So an event, on time or late, and a label cost one entry appended; reading replays them through the same code that
applied them. The value is written whole for a new entity and after each compaction. An append says at which length it
belongs: a store whose value has another length has lost or doubled something, and must refuse it (or write at that
offset, which makes a repeated step harmless).
"""

from __future__ import annotations

import sys
from array import array
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

from services.features.tiles import Tile, Tiles
from services.features.words import IS_LABEL, IS_REVISION, LABEL_BITS, LABEL_OF_CODE, TAG_SHIFT
from services.mesh.errors import Fatal

if TYPE_CHECKING:
    from services.features.kernel import View
    from services.features.state import EntityState

MAGIC: Final = b"WFE2"
# magic, mark, first entries, tiles, log entries counted when written, compaction due at, doublings of the tile width,
# checksum
_HEADER: Final = Struct("<4s8sIIIIBI")
_TILE: Final = Struct("<qQ16sQQ")  # newest time, count, amount (outgrows 64 bits), genuine, fraud

assert sys.byteorder == "little", "columns are copied to and from the store as they lie in memory"


class Append(NamedTuple):
    """Bytes to add to the entity's value, which must be ``offset`` bytes long."""

    data: bytes
    offset: int


class Rewrite(NamedTuple):
    """The entity's whole value, in place of whatever the store has."""

    data: bytes


def pack(state: EntityState) -> bytes:
    """The entity's whole value."""
    keeping = state.keeping
    width = 1 + keeping.amounts + keeping.labels
    entries = array("q", bytes(keeping.entry.size * len(state.times_ms)))
    entries[0::width] = state.times_ms
    if keeping.amounts:
        entries[1::width] = array("q", state.amounts())
    if keeping.labels:
        entries[width - 1 :: width] = state.words
    tiles = b"".join(_pack_tile(tile) for tile in state.tiles or ())
    body = tiles + entries.tobytes()
    counts = (len(state.times_ms), len(state.tiles or ()), state.log_entries, state.compact_at, _doublings(state))
    unsigned = _HEADER.pack(MAGIC, keeping.store_mark, *counts, 0)
    return _HEADER.pack(MAGIC, keeping.store_mark, *counts, crc32(body, crc32(unsigned))) + body


def unpack(view: View, value: bytes, place: str = "") -> EntityState:
    """State from the entity's whole value; ``place`` (its key) is for the message.

    Raises Fatal when the value is not what ``pack`` and ``take_delta`` wrote for this view of this feature set.
    """
    try:
        return _unpacked(view, value)
    except ValueError as error:
        where = f"{place or 'an entity'} of view {view.name}"
        remedy = "stop the stage and delete this partition's feature state: it is rebuilt from the log"
        raise Fatal(f"stored state of {where}: {error}; {remedy}") from error


def _unpacked(view: View, value: bytes) -> EntityState:
    keeping = view.keeping
    if len(value) < _HEADER.size:
        raise ValueError(f"{len(value)} bytes are fewer than the {_HEADER.size} of a header")
    magic, mark, entry_count, tile_count, log_entries, compact_at, doublings, checksum = _HEADER.unpack_from(value)
    if magic != MAGIC:
        raise ValueError(f"it begins with {magic!r}, not {MAGIC!r}")
    if mark != keeping.store_mark:
        raise ValueError(f"it has mark {mark.hex()}; {view.name} of this feature set has {keeping.store_mark.hex()}")
    entries_at = _HEADER.size + _TILE.size * tile_count
    tail_at = entries_at + keeping.entry.size * entry_count
    if len(value) < tail_at or (len(value) - tail_at) % keeping.entry.size:
        raise ValueError(f"{len(value)} bytes are not {tail_at} and whole entries of {keeping.entry.size}")
    unsigned = _HEADER.pack(magic, mark, entry_count, tile_count, log_entries, compact_at, doublings, 0)
    if crc32(memoryview(value)[_HEADER.size : tail_at], crc32(unsigned)) != checksum:
        raise ValueError(f"the checksum of its first {tail_at} bytes differs")
    state = view.new_state()
    _restore(state, value, entries_at, tail_at, doublings)
    state.log_entries = log_entries
    state.compact_at = compact_at
    for at in range(tail_at, len(value), keeping.entry.size):
        if not _replay(state, keeping.entry.unpack_from(value, at)):
            raise ValueError(f"its entry at byte {at} follows from nothing before: {value[at : at + 24].hex()}")
    state.pending.clear()
    state.stored_bytes = len(value)
    return state


def _doublings(state: EntityState) -> int:
    """How often the tiles' width was doubled."""
    return 0 if state.tiles is None else (state.tiles.width_ms // state.keeping.tile_width_ms).bit_length() - 1


def _pack_tile(tile: Tile) -> bytes:
    amount = tile.amount.to_bytes(16, "little", signed=True)
    return _TILE.pack(tile.newest_ms, tile.count, amount, tile.genuine, tile.fraud)


def _restore(state: EntityState, value: bytes, entries_at: int, tail_at: int, doublings: int) -> None:
    """Take over tiles and first entries, which the checksum has vouched for."""
    if entries_at > _HEADER.size:
        state.tiles = Tiles(state.keeping.tile_width_ms << doublings)
        for newest_ms, count, amount, genuine, fraud in _TILE.iter_unpack(value[_HEADER.size : entries_at]):
            state.tiles.append(Tile(newest_ms, count, int.from_bytes(amount, "little", signed=True), genuine, fraud))
    columns = array("q")
    columns.frombytes(value[entries_at:tail_at])
    width = 1 + state.keeping.amounts + state.keeping.labels
    state.restore(columns[0::width], columns[1::width], columns[width - 1 :: width])


def _replay(state: EntityState, entry: tuple[int, ...]) -> bool:
    """Apply one appended entry again; False when it can't have been written by this state."""
    keeping = state.keeping
    time_ms = entry[0]
    amount = entry[1] if keeping.amounts else 0
    word = entry[-1] if keeping.labels else 0
    tag, bits = word >> TAG_SHIFT, word & ((1 << TAG_SHIFT) - 1)
    if bits & IS_LABEL:
        label = LABEL_OF_CODE.get(bits & LABEL_BITS)
        before = state.log_entries
        return (
            label is not None
            and state.relabel(time_ms, tag, label, bool(bits & IS_REVISION))
            and state.log_entries > before
        )
    if bits or word < 0:
        return False
    if state.times_ms and time_ms <= state.times_ms[-1] - keeping.kept_span_ms:
        return False
    state.insert(time_ms, amount, tag)
    return True
