"""Writing the index file: sorted runs of 24-byte entries in SQLite, and how far each partition has been read.

Hashes come in no order, so a table sorted by them would rewrite a page of 4 kB for each entry. Here a batch is one
sorted run in one piece; eight runs of a level are merged into one of the next, so an entry is written about once a
level, and a look-up asks a handful of runs. Beyond ``ROWS_MAX`` runs are left alone, which bounds memory and pauses.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np
import numpy.typing as npt

from services.mesh.adapters.lookup_reader import BUSY_WAIT_S, Corruption, IndexCorrupt, Progress, progress_of
from services.mesh.errors import Fatal
from services.mesh.lookup_entries import ENTRY, TOPIC_NUMBERS

FORMAT: Final = 1
FAN_IN: Final = 8
ROWS_MAX: Final = 1_000_000  # 24 MB; merging a million takes a sixth of a second and 80 MB
CHUNK_ROWS: Final = 680  # about 16 kB: what a look-up reads of a run
CLOSED: Final = -1

_ROW = np.dtype([("tag", "<i8"), ("customer", "<u4"), ("topic", "<u2"), ("partition", "<u2"), ("offset", "<i8")])
assert _ROW.itemsize == ENTRY.size

_TABLES = """
BEGIN;
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS progress (
    topic INTEGER, partition INTEGER, next_offset INTEGER NOT NULL, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
    run INTEGER PRIMARY KEY, level INTEGER NOT NULL, entries INTEGER NOT NULL, newest_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS chunks (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL, first_tag INTEGER NOT NULL, entries BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS chunk_of ON chunks (run, first_tag);
COMMIT;
"""


class IndexWriter:
    """The one process that writes. Any call raises IndexCorrupt, and sqlite3.OperationalError when the disk is full."""

    def __init__(self, path: Path, log: str) -> None:
        """Open or create ``path`` for the log called ``log`` (its cluster id)."""
        self._path = path
        try:
            # Autocommit: transactions are begun and ended by hand.
            self._connection = sqlite3.connect(path, timeout=BUSY_WAIT_S, isolation_level=None)
        except sqlite3.OperationalError as error:
            raise Fatal(f"WEIR_LOOKUP_FILE={path}: {error}; name a file in a directory that may be written") from error
        try:
            with Corruption(path):
                self._connection.execute("PRAGMA journal_mode=WAL")  # readers go on while we write
                self._connection.execute("PRAGMA synchronous=NORMAL")  # a power loss costs a rebuild at worst
                self._connection.executescript(_TABLES)
                self._check(log)
        except BaseException:
            self.close()
            raise

    def progress(self) -> dict[tuple[str, int], int]:
        """How far each partition has been read."""
        with Corruption(self._path):
            return progress_of(self._connection)

    def add(self, entries: bytes, progress: Progress, newest_ms: int) -> None:
        """Take in ``entries`` (packed, any order) and move to ``progress``, both or neither.

        ``newest_ms``: append time of the newest record among them.
        """
        rows = np.frombuffer(entries, dtype=_ROW)
        with Corruption(self._path), self._transaction() as connection:
            if len(rows):
                self._write_run(_sorted(rows), level=0, newest_ms=newest_ms)
                self._merge()
            connection.executemany(
                "INSERT INTO progress VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset",
                [(TOPIC_NUMBERS[topic], partition, offset) for (topic, partition), offset in progress.items()],
            )

    def forget_before(self, time_ms: int) -> None:
        """Drop the runs whose newest record is older than ``time_ms``: the log has dropped those records."""
        with Corruption(self._path), self._transaction() as connection:
            old = connection.execute("SELECT run FROM runs WHERE newest_ms < ?", (time_ms,)).fetchall()
            self._drop([run for (run,) in old])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _check(self, log: str) -> None:
        wanted = {"format": str(FORMAT), "log": log}
        found = dict(self._connection.execute("SELECT name, value FROM about"))
        if found and found != wanted:
            raise IndexCorrupt(f"{self._path} is an index of {found}, not of {wanted}")
        self._connection.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", wanted.items())

    def _transaction(self) -> _Transaction:
        return _Transaction(self._connection)

    def _merge(self) -> None:
        """Merge full levels, from the lowest upwards."""
        level = 0
        while True:
            runs = self._connection.execute(
                "SELECT run, entries, newest_ms FROM runs WHERE level = ? ORDER BY run", (level,)
            ).fetchall()
            if len(runs) < FAN_IN:
                return
            numbers = [run for run, _, _ in runs]
            if sum(entries for _, entries, _ in runs) > ROWS_MAX:
                self._connection.executemany(
                    "UPDATE runs SET level = ? WHERE run = ?", [(CLOSED, run) for run in numbers]
                )
                return
            merged = _sorted(np.concatenate([self._rows(run) for run in numbers]))
            self._drop(numbers)
            self._write_run(merged, level + 1, max(newest_ms for _, _, newest_ms in runs))
            level += 1

    def _rows(self, run: int) -> npt.NDArray[np.void]:
        chunks = self._connection.execute("SELECT entries FROM chunks WHERE run = ? ORDER BY first_tag, id", (run,))
        return np.frombuffer(b"".join(chunk for (chunk,) in chunks), dtype=_ROW)

    def _drop(self, runs: list[int]) -> None:
        self._connection.executemany("DELETE FROM chunks WHERE run = ?", [(run,) for run in runs])
        self._connection.executemany("DELETE FROM runs WHERE run = ?", [(run,) for run in runs])

    def _write_run(self, rows: npt.NDArray[np.void], level: int, newest_ms: int) -> None:
        insert = "INSERT INTO runs (level, entries, newest_ms) VALUES (?, ?, ?)"
        run = self._connection.execute(insert, (level, len(rows), newest_ms)).lastrowid
        self._connection.executemany(
            "INSERT INTO chunks (run, first_tag, entries) VALUES (?, ?, ?)",
            [(run, int(chunk["tag"][0]), chunk.tobytes()) for chunk in _chunks(rows)],
        )


class _Transaction:
    """BEGIN IMMEDIATE to COMMIT, ROLLBACK on any error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._connection.in_transaction:
            self._connection.execute("COMMIT" if kind is None else "ROLLBACK")


def _sorted(rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    return rows[np.argsort(rows["tag"], kind="stable")]


def _chunks(rows: npt.NDArray[np.void]) -> Iterator[npt.NDArray[np.void]]:
    """Pieces of about ``CHUNK_ROWS``; equal tags stay together, so that a look-up reads one piece."""
    tags, start = rows["tag"], 0
    while start < len(rows):
        end = min(start + CHUNK_ROWS, len(rows))
        if end < len(rows):
            end = int(np.searchsorted(tags, tags[end - 1], side="right"))
        yield rows[start:end]
        start = end
