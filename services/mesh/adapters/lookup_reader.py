"""Reading the index file from an event's id to its records, while the lookup service writes it (``lookup_index``)."""

from __future__ import annotations

import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from services.mesh.errors import Fatal, WeirError
from services.mesh.lookup_entries import ENTRY, INDEXED, UNKNOWN_CUSTOMER, Place, crc_of_customer, tag_of_event

Progress = Mapping[tuple[str, int], int]
"""(topic, partition) -> next offset that the index has not read."""

LOOKUP_FILE: Final = "lookup.sqlite"  # in the data directory
BUSY_WAIT_S: Final = 5.0


class IndexCorrupt(WeirError):
    """The file is not an index of this log: it is derived, so it is put aside and built anew."""


class IndexReader:
    """Looks ids up while another process writes."""

    def __init__(self, path: Path) -> None:
        """Open ``path``; Fatal when there is none."""
        self._path = path
        try:
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_WAIT_S, isolation_level=None
            )
        except sqlite3.OperationalError as error:
            raise Fatal(f"{path}: {error}; is the lookup service running? see its log") from error

    def progress(self) -> dict[tuple[str, int], int]:
        """How far each partition has been read."""
        with Corruption(self._path):
            return progress_of(self._connection)

    def find(self, event_id: str, customer_id: str | None = None) -> list[Place]:
        """Places of records that may be about that event, by topic, partition and offset.

        A hash may collide: the caller compares the ids of the record that lies there.
        """
        tag = tag_of_event(event_id.encode())
        wanted = None if customer_id is None else {UNKNOWN_CUSTOMER, crc_of_customer(customer_id.encode())}
        found: set[Place] = set()
        with Corruption(self._path):
            # In one read transaction, or a merge in between could hide a run.
            self._connection.execute("BEGIN")
            try:
                for (run,) in self._connection.execute("SELECT run FROM runs").fetchall():
                    for _, customer, topic, partition, offset in ENTRY.iter_unpack(self._rows_of(run, tag)):
                        if wanted is None or customer in wanted:
                            found.add(Place(INDEXED[topic].name, partition, offset))
            finally:
                self._connection.execute("COMMIT")
        return sorted(found)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _rows_of(self, run: int, tag: int) -> bytes:
        query = "SELECT entries FROM chunks WHERE run = ? AND first_tag <= ? ORDER BY first_tag DESC LIMIT 1"
        found = self._connection.execute(query, (run, tag)).fetchone()
        if found is None:
            return b""
        entries: bytes = found[0]
        count, rest = divmod(len(entries), ENTRY.size)
        if rest:
            raise ValueError(f"a chunk of {len(entries)} bytes, no multiple of {ENTRY.size}")

        def tag_at(place: int) -> int:
            return int(ENTRY.unpack_from(entries, place * ENTRY.size)[0])

        first = bisect_left(range(count), tag, key=tag_at)
        last = bisect_right(range(count), tag, lo=first, key=tag_at)
        return entries[first * ENTRY.size : last * ENTRY.size]


class Corruption:
    """Turns what SQLite says of a damaged file into IndexCorrupt; a full disk or a lock is not one."""

    def __init__(self, path: Path) -> None:
        """``path``: the index, for the message."""
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        # Tables that are not ours, and chunks that are no whole entries.
        strange = isinstance(error, sqlite3.OperationalError) and "no such" in str(error)
        if damaged or strange or isinstance(error, ValueError):
            raise IndexCorrupt(f"{self._path}: {error}; the lookup service builds it anew from the log") from error


def progress_of(connection: sqlite3.Connection) -> dict[tuple[str, int], int]:
    """How far each partition has been read."""
    rows = connection.execute("SELECT topic, partition, next_offset FROM progress")
    return {(INDEXED[topic].name, partition): next_offset for topic, partition, next_offset in rows}
