"""Identities seen in one partition, for as long as their event time is within the allowed lateness. Pure.

Each costs 24 bytes: 16 of identity, 8 of body hash. They live by event time in buckets, so that forgetting is dropping
whole buckets. New ones are held in a small dict; when it is full they are frozen: sorted into numpy columns and merged
into their bucket's, each merge at least doubling what it adds to, so that a row is merged O(log n) times. A batch is
looked up in all frozen columns at once (``probe``), a record in the dict when its turn comes (``body_of``): a repeat
within the batch is found there, because nothing is frozen before the batch is over (``settle``).

Exact in the log alone: a row counts while its bucket is not below the floor (the bucket of the earliest time that is
not late), whether or not its memory has been given back yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.ingestion.capacity import BUCKETS, OPEN_ROWS_MAX

ROW_BYTES: Final = 24

_BODY_BITS: Final = 64
_BODY_MASK: Final = (1 << _BODY_BITS) - 1
_U64 = NDArray[np.uint64]


class _Columns(NamedTuple):
    """Rows of one bucket, sorted by ``high``: uint64, each of shape (rows,)."""

    high: _U64  # identity, first half
    low: _U64  # identity, second half
    body: _U64


class SeenIdentities:
    """Remembers rows of (identity, body hash, bucket)."""

    def __init__(self, open_rows_max: int = OPEN_ROWS_MAX) -> None:
        self._open_rows_max = open_rows_max
        self._open: dict[bytes, int] = {}  # identity -> bucket * 2^64 + body hash
        self._frozen: dict[int, list[_Columns]] = {}  # bucket -> columns, each at least twice as long as the next

    def __len__(self) -> int:
        """Rows held, those below the floor that still wait to be dropped included."""
        return len(self._open) + sum(len(part.high) for parts in self._frozen.values() for part in parts)

    @property
    def frozen(self) -> bool:
        """Whether ``probe`` has anything to look in."""
        return bool(self._frozen)

    def probe(self, identities: Sequence[bytes]) -> Mapping[int, int]:
        """Frozen rows of a whole batch: index in ``identities`` -> token for ``body_of``."""
        if not self._frozen or not identities:
            return {}
        wanted = np.frombuffer(b"".join(identities), dtype="<u8").reshape(-1, 2)
        order = np.argsort(wanted[:, 0])  # ascending look-ups walk each column once, from cache to cache
        high, low = wanted[order, 0], wanted[order, 1]
        found: dict[int, int] = {}
        for bucket in sorted(self._frozen):  # of an identity that was used anew, the latest bucket counts
            for part in self._frozen[bucket]:
                at = part.high.searchsorted(high)
                last = len(part.high) - 1
                for index in np.flatnonzero(part.high[np.minimum(at, last)] == high).tolist():
                    row = int(at[index])
                    while row <= last and part.high[row] == high[index]:
                        if part.low[row] == low[index]:
                            found[int(order[index])] = (bucket << _BODY_BITS) | int(part.body[row])
                            break
                        row += 1
        return found

    def body_of(self, identity: bytes, probed: int | None, floor: int) -> int | None:
        """Body hash of ``identity`` when it was seen in bucket ``floor`` or later; ``probed``: its token, if any."""
        token = self._open.get(identity, probed)
        if token is None or token >> _BODY_BITS < floor:
            return None
        return token & _BODY_MASK

    def add(self, identity: bytes, body: int, bucket: int) -> None:
        """Remember an identity that ``body_of`` does not know."""
        self._open[identity] = (bucket << _BODY_BITS) | body

    def settle(self, floor: int) -> None:
        """The batch is over: drop what is below ``floor``, freeze when the dict is full."""
        for bucket in [bucket for bucket in self._frozen if bucket < floor]:
            del self._frozen[bucket]
        if len(self._open) <= self._open_rows_max:
            return
        live = {identity: token for identity, token in self._open.items() if token >> _BODY_BITS >= floor}
        if 2 * len(live) <= self._open_rows_max:
            self._open = live
            return
        self._open = {}
        for bucket, rows in _by_bucket(live).items():
            self._freeze(bucket, rows)

    def dump(self, floor: int) -> Iterator[tuple[int, bytes]]:
        """All rows that count: bucket, and its rows of 24 bytes as ``row_of`` writes them."""
        still_open = _by_bucket({i: token for i, token in self._open.items() if token >> _BODY_BITS >= floor})
        for bucket in sorted(self._frozen.keys() | still_open.keys()):
            if bucket >= floor:
                parts = [np.column_stack(part).tobytes() for part in self._frozen.get(bucket, [])]
                yield bucket, b"".join([*parts, still_open.get(bucket, b"")])

    def load(self, bucket: int, rows: bytes) -> None:
        """Take back what ``dump`` gave. Raises ValueError for a length that is no whole number of rows."""
        if len(rows) % ROW_BYTES:
            raise ValueError(f"bucket {bucket} has {len(rows)} bytes, no multiple of {ROW_BYTES}")
        if len(rows) // ROW_BYTES + len(self._open) > self._open_rows_max // 2:
            self._freeze(bucket, rows)
            return
        for at in range(0, len(rows), ROW_BYTES):
            self.add(rows[at : at + 16], int.from_bytes(rows[at + 16 : at + ROW_BYTES], "little"), bucket)

    def _freeze(self, bucket: int, rows: bytes) -> None:
        table = np.frombuffer(rows, dtype="<u8").reshape(-1, 3)
        order = np.argsort(table[:, 0])
        parts = self._frozen.setdefault(bucket, [])
        parts.append(_Columns(table[order, 0], table[order, 1], table[order, 2]))
        while len(parts) > 1 and len(parts[-2].high) < 2 * len(parts[-1].high):
            newer, older = parts.pop(), parts.pop()
            parts.append(_merged(older, newer))


def row_of(identity: bytes, body: int) -> bytes:
    """One row as the store keeps it: identity, body hash little-endian."""
    return identity + body.to_bytes(8, "little")


def bucket_ms_of(lateness_ms: int) -> int:
    """Width of a bucket."""
    return max(1, lateness_ms // BUCKETS)


def _by_bucket(tokens: Mapping[bytes, int]) -> dict[int, bytes]:
    rows: dict[int, list[bytes]] = {}
    for identity, token in tokens.items():
        rows.setdefault(token >> _BODY_BITS, []).append(row_of(identity, token & _BODY_MASK))
    return {bucket: b"".join(parts) for bucket, parts in rows.items()}


def _merged(older: _Columns, newer: _Columns) -> _Columns:
    high = np.concatenate((older.high, newer.high))
    order = np.argsort(high, kind="stable")  # two sorted runs: a single merge
    low = np.concatenate((older.low, newer.low))[order]
    return _Columns(high[order], low, np.concatenate((older.body, newer.body))[order])
