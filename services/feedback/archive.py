"""One partition's file: its decisions, what was said about them, the outcomes that wait, and how far the log is in it.

SQLite, because a step must be whole or not there; one file a partition, because it has one owner. A step is one
transaction, begun with the first change and committed after Kafka's: a process that dies leaves the file a step behind.
Memory is the page cache that ``cache_bytes`` allows. Decisions lie in the order of their offsets and are written once;
the index from identity to offset is the only part that is written all over.

Owners are told apart by an epoch in the file, compared in each transaction: a process that was taken for dead and goes
on is refused. It may also hold the file's lock while it stands still; its successor then begins a file of its own
(``begin_anew``) instead of waiting, and the log fills it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from services.feedback.labelling import Decided
from services.mesh.errors import Fatal, Fenced, Transient

FORMAT: Final = "1"
_LOCK_WAIT_S: Final = 2.0  # a step holds the lock for milliseconds
_WAL_PAGES: Final = 4_000  # 16 MB: index pages that are touched again are written once
# The index of forgotten decisions is swept a slice of the hashes at a time, one slice for this many decisions.
_SWEEP_SLICES: Final = 1_024
_SWEEP_EVERY: Final = 1_024
_TAGS: Final = 1 << 63

_TABLES: Final = """
BEGIN;
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decisions (
    offset INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, append_time_ms INTEGER NOT NULL, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS identities (tag INTEGER, offset INTEGER, PRIMARY KEY (tag, offset)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS histories (offset INTEGER PRIMARY KEY, matured INTEGER NOT NULL, said BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS waiting (
    mark INTEGER PRIMARY KEY, offset INTEGER NOT NULL, tag INTEGER NOT NULL, until_ms INTEGER NOT NULL,
    reason TEXT NOT NULL, value BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS waiting_of ON waiting (tag, offset);
CREATE INDEX IF NOT EXISTS waiting_until ON waiting (until_ms, offset);
CREATE TABLE IF NOT EXISTS given_up (mark INTEGER PRIMARY KEY, until_ms INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS given_up_until ON given_up (until_ms);
COMMIT;
"""


class Unusable(Exception):
    """The file is damaged, locked or of another log: it is put aside, and the log fills a new one."""


@dataclass(slots=True, kw_only=True)
class Place:
    """How far the file has come. Offsets are the next ones; metadata are the watermarks committed beside them."""

    decisions: int = 0
    outcomes: int = 0
    decisions_metadata: str = ""
    outcomes_metadata: str = ""
    # What was made of these is in: behind the two above only while a file is being filled.
    told_decisions: int = 0
    told_outcomes: int = 0
    clock_ms: int = 0
    mature_next: int = 0  # every decision before it is labelled
    forget_next: int = 0  # of every decision before it only the identity is kept
    forgotten: int = 0  # forget_next when drop_next was last set
    drop_next: int = 0  # of every decision before it nothing has to be kept
    drop_at_ms: int = 0  # when it is set again
    sweep: int = 0  # slice of the index that is swept next


class History(NamedTuple):
    """What was said about one event, in order."""

    matured: bool  # before anybody said anything
    said: tuple[int, ...]  # mark of the outcome * 2 + 1 if it said fraud

    def knows(self, mark: int) -> bool:
        """Whether the outcome of that mark is in it."""
        return any(word >> 1 == mark for word in self.said)


class Found(NamedTuple):
    """A decision that an identity leads to."""

    offset: int
    decided: Decided | None  # None: forgotten
    history: History


class Waiting(NamedTuple):
    """An outcome that waits."""

    mark: int
    offset: int  # in outcomes.v1
    tag: int
    until_ms: int  # it is given up when the clock passes this
    reason: str  # and this is why
    value: bytes


class Archive:
    """The file of one partition. Any call raises Unusable, Fenced, or Transient when the disk is full."""

    def __init__(self, path: Path, log: str, cache_bytes: int) -> None:
        """Open or create ``path`` for the log called ``log`` and become its only writer."""
        self.path = path
        self.place = Place()
        self._fresh: list[tuple[int, Decided]] = []  # added, and not yet handed to SQLite
        self._swept_at = 0
        self._epoch = 0
        self._has_given_up = True  # somebody, perhaps
        try:
            self._connection = sqlite3.connect(path, timeout=_LOCK_WAIT_S, isolation_level=None)
        except sqlite3.OperationalError as error:
            raise Fatal(f"WEIR_FEEDBACK_DIR: {path}: {error}; name a directory that may be written") from error
        try:
            self._open(log, cache_bytes)
        except sqlite3.Error as error:
            self._connection.close()
            raise self._meant(error) from error
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close; what was not committed is gone."""
        self._connection.close()

    def begin(self) -> None:
        """Start a step, unless one has been started. Raises Fenced when a newer owner has the file."""
        if self._connection.in_transaction:
            return
        self._run("BEGIN IMMEDIATE")
        if self._read_about("epoch") != self._epoch:
            self._run("ROLLBACK")
            raise Fenced(f"{self.path}: a newer owner has the file")

    def commit(self) -> None:
        """End the step: all of it, with ``place``, is in the file."""
        self.begin()
        self._flush()
        self._sweep()
        self._write_about({"place": orjson.dumps(self.place)})
        self._run("COMMIT")

    def add(self, tag: int, decided: Decided) -> None:
        """Keep a decision; its offset is above all others."""
        self._fresh.append((tag, decided))

    def find(self, tag: int) -> list[Found]:
        """Decisions that may be meant, latest first, those included of which only the identity is kept."""
        self._flush()
        rows = self._run(
            "SELECT i.offset, d.time_ms, d.append_time_ms, d.record, h.matured, h.said FROM identities i "
            "LEFT JOIN decisions d ON d.offset = i.offset LEFT JOIN histories h ON h.offset = i.offset "
            "WHERE i.tag = ? AND i.offset >= ? ORDER BY i.offset DESC",
            (tag, self.place.drop_next),
        ).fetchall()
        return [
            Found(
                offset,
                None if record is None else Decided(offset, time_ms, append_time_ms, record),
                self._blank(offset) if said is None else History(bool(matured), _words(said)),
            )
            for offset, time_ms, append_time_ms, record, matured, said in rows
        ]

    def history(self, offset: int) -> History:
        """What was said about the decision at ``offset``."""
        row = self._run("SELECT matured, said FROM histories WHERE offset = ?", (offset,)).fetchone()
        return self._blank(offset) if row is None else History(bool(row[0]), _words(row[1]))

    def say(self, offset: int, history: History) -> None:
        """Replace what was said about the decision at ``offset``."""
        said = b"".join([word.to_bytes(8, "little") for word in history.said])
        self._change("INSERT OR REPLACE INTO histories VALUES (?, ?, ?)", (offset, int(history.matured), said))

    def unsaid(self, before_ms: int, rows_max: int) -> Iterator[Decided]:
        """Decisions from ``mature_next`` on, in order, up to the first whose event is not older than ``before_ms``;
        those that somebody has said something about are passed over. ``mature_next`` moves along."""
        place = self.place
        self._flush()
        rows = self._run(
            "SELECT d.offset, d.time_ms, d.append_time_ms, h.offset FROM decisions d LEFT JOIN histories h "
            "ON h.offset = d.offset WHERE d.offset >= ? ORDER BY d.offset LIMIT ?",
            (place.mature_next, rows_max),
        ).fetchall()
        for offset, time_ms, append_time_ms, said in rows:
            if time_ms >= before_ms:
                return
            place.mature_next = offset + 1
            if said is None:
                (record,) = self._run("SELECT record FROM decisions WHERE offset = ?", (offset,)).fetchone()
                yield Decided(offset, time_ms, append_time_ms, record)

    def oldest_ms(self, start: int) -> int | None:
        """Event time of the first decision at or behind ``start``."""
        self._flush()
        query = "SELECT time_ms FROM decisions WHERE offset >= ? ORDER BY offset LIMIT 1"
        row = self._run(query, (start,)).fetchone()
        return None if row is None else int(row[0])

    def forget(self, before_ms: int, rows_max: int) -> None:
        """Drop labelled decisions, from the oldest on, up to the first event that is not older than ``before_ms``."""
        place = self.place
        rows = self._run(
            "SELECT offset, time_ms FROM decisions WHERE offset >= ? AND offset < ? ORDER BY offset LIMIT ?",
            (place.forget_next, place.mature_next, rows_max),
        ).fetchall()
        last = None
        for offset, time_ms in rows:
            if time_ms >= before_ms:
                break
            last = offset
        if last is not None:
            self._change("DELETE FROM decisions WHERE offset <= ?", (last,))
            place.forget_next = last + 1

    def wait(self, outcome: Waiting) -> None:
        """Keep an outcome that waits; for another reason than before, if it did already."""
        self._change("INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?, ?)", outcome)

    def stop_waiting(self, mark: int) -> None:
        """It was joined, or given up."""
        self._change("DELETE FROM waiting WHERE mark = ?", (mark,))

    def waiting_for(self, tag: int) -> list[Waiting]:
        """Outcomes that wait for an event, in the order in which they came."""
        return self._waiting("WHERE tag = ? ORDER BY offset", (tag,))

    def overdue(self, clock_ms: int, rows_max: int) -> list[Waiting]:
        """Outcomes that have waited long enough, the one that waited longest first."""
        return self._waiting("WHERE until_ms < ? ORDER BY until_ms, offset LIMIT ?", (clock_ms, rows_max))

    def waiting_count(self) -> int:
        """How many wait."""
        return int(self._run("SELECT count(*) FROM waiting").fetchone()[0])

    def give_up(self, mark: int, until_ms: int) -> None:
        """Remember, until the clock passes ``until_ms``, that the outcome is an orphan."""
        self._change("INSERT OR REPLACE INTO given_up VALUES (?, ?)", (mark, until_ms))
        self._has_given_up = True

    def forget_outcomes(self, clock_ms: int) -> None:
        """Of outcomes that nobody can repeat any more: those given up until before the clock, and of events of which
        nothing is known."""
        if self._has_given_up:
            self._change("DELETE FROM given_up WHERE until_ms < ?", (clock_ms,))
        self._change("DELETE FROM histories WHERE offset < ?", (self.place.drop_next,))

    def is_known(self, mark: int) -> bool:
        """Whether the outcome waits or was given up."""
        if self._run("SELECT 1 FROM waiting WHERE mark = ?", (mark,)).fetchone() is not None:
            return True
        if not self._has_given_up:
            return False
        return self._run("SELECT 1 FROM given_up WHERE mark = ?", (mark,)).fetchone() is not None

    def clear(self) -> None:
        """Forget everything but whose file it is: the log fills it anew."""
        self.begin()
        self._fresh.clear()
        for table in ("decisions", "identities", "histories", "waiting", "given_up"):
            self._change(f"DELETE FROM {table}", ())
        self.place = Place()

    def _blank(self, offset: int) -> History:
        """Of a decision that nobody has said anything about: it has its matured label, or not yet."""
        return History(offset < self.place.mature_next, ())

    def _open(self, log: str, cache_bytes: int) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode=WAL")
        # The log is the record: what a power loss takes is read again, a file that it damages is thrown away.
        run("PRAGMA synchronous=OFF")
        run(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
        run(f"PRAGMA cache_size=-{max(1, cache_bytes // 1_024)}")
        self._connection.executescript(_TABLES)
        run("BEGIN IMMEDIATE")
        wanted = {"format": FORMAT, "log": log}
        known = dict(run("SELECT name, value FROM about").fetchall())
        if known and {name: known.get(name) for name in wanted} != wanted:
            run("ROLLBACK")
            raise Unusable(f"{self.path} is a file of {known.get('log')} in format {known.get('format')}")
        self._epoch = int(known.get("epoch", 0)) + 1
        self._write_about({**wanted, "epoch": self._epoch})
        run("COMMIT")
        self.place = Place(**orjson.loads(known["place"])) if "place" in known else Place()
        self._swept_at = self.place.decisions
        self._has_given_up = run("SELECT 1 FROM given_up LIMIT 1").fetchone() is not None

    def _flush(self) -> None:
        if not self._fresh:
            return
        self.begin()
        fresh, self._fresh = self._fresh, []
        self._run_all("INSERT OR REPLACE INTO decisions VALUES (?, ?, ?, ?)", [decided for _, decided in fresh])
        # In order: neighbours share pages.
        rows = sorted([(tag, decided.offset) for tag, decided in fresh])
        self._run_all("INSERT OR IGNORE INTO identities VALUES (?, ?)", rows)

    def _sweep(self) -> None:
        """Drop identities of which nothing has to be known any more, a slice of the hashes at a time."""
        place = self.place
        if not place.drop_next or place.decisions - self._swept_at < _SWEEP_EVERY:
            return
        self._swept_at = place.decisions
        low, high = (slice_ * (_TAGS // _SWEEP_SLICES) for slice_ in (place.sweep, place.sweep + 1))
        self._run("DELETE FROM identities WHERE tag >= ? AND tag <= ? AND offset < ?", (low, high - 1, place.drop_next))
        place.sweep = (place.sweep + 1) % _SWEEP_SLICES

    def _waiting(self, where: str, values: Sequence[object]) -> list[Waiting]:
        query = f"SELECT mark, offset, tag, until_ms, reason, value FROM waiting {where}"
        return [Waiting(*row) for row in self._run(query, values)]

    def _read_about(self, name: str) -> object:
        row = self._run("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def _write_about(self, values: dict[str, object]) -> None:
        self._run_all("INSERT OR REPLACE INTO about VALUES (?, ?)", list(values.items()))

    def _change(self, statement: str, values: Sequence[object]) -> None:
        self.begin()
        self._run(statement, values)

    def _run(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise self._meant(error) from error

    def _run_all(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        try:
            self._connection.executemany(statement, rows)
        except sqlite3.Error as error:
            raise self._meant(error) from error

    def _meant(self, error: sqlite3.Error) -> Transient | Unusable:
        """What SQLite says, as one of our errors."""
        if isinstance(error, sqlite3.OperationalError) and ("full" in str(error) or "I/O" in str(error)):
            return Transient(f"{self.path}: {error}; make room, nothing is lost meanwhile")
        return Unusable(f"{self.path}: {error}")


def open_archive(directory: Path, partition: int, log: str, cache_bytes: int) -> tuple[Archive, str]:
    """The partition's file, or a new one where that is of no use; and why, empty when it was of use."""
    directory.mkdir(parents=True, exist_ok=True)
    newest = max(_numbers(directory, partition), default=0)
    try:
        return Archive(_path(directory, partition, newest), log, cache_bytes), ""
    except Unusable as unusable:
        return begin_anew(directory, partition, log, cache_bytes), str(unusable)


def begin_anew(directory: Path, partition: int, log: str, cache_bytes: int) -> Archive:
    """A new file beside the old one, which is unlinked: whoever still has it open writes to nobody."""
    old = _numbers(directory, partition)
    made = Archive(_path(directory, partition, max(old, default=0) + 1), log, cache_bytes)
    for number in old:
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{_path(directory, partition, number)}{suffix}").unlink()
    return made


def _path(directory: Path, partition: int, number: int) -> Path:
    return directory / f"partition-{partition}.{number}.sqlite"


def _numbers(directory: Path, partition: int) -> list[int]:
    names = [path.name.split(".")[1] for path in directory.glob(f"partition-{partition}.*.sqlite")]
    return [int(name) for name in names if name.isdigit()]


def _words(said: bytes) -> tuple[int, ...]:
    if len(said) % 8:
        raise Unusable(f"a history of {len(said)} bytes")
    return tuple(int.from_bytes(said[at : at + 8], "little") for at in range(0, len(said), 8))
