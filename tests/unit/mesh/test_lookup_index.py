"""The index file: what was added is found, exactly, whatever was merged, broken off or damaged."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.lookup.__main__ import set_aside
from services.mesh.adapters import lookup_index as index_module
from services.mesh.adapters.lookup_index import IndexWriter
from services.mesh.adapters.lookup_reader import IndexCorrupt, IndexReader
from services.mesh.errors import Fatal
from services.mesh.lookup_entries import Ids, Place, entry_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lookup.sqlite"


@pytest.fixture
def writer(path: Path) -> Iterator[IndexWriter]:
    opened = IndexWriter(path, "log-1")
    yield opened
    opened.close()


def entry(event: str, customer: str | None, offset: int, topic: int = 0, partition: int = 3) -> bytes:
    return entry_of(Ids(event.encode(), customer.encode() if customer else None), topic, partition, offset)


def open_and_add(path: Path) -> None:
    writer = IndexWriter(path, "log-1")
    try:
        writer.add(entry("e", "a", 1), {("decisions.v1", 3): 2}, 0)
    finally:
        writer.close()


def find(path: Path, event: str, customer: str | None = None) -> list[Place]:
    with IndexReader(path) as reader:
        return reader.find(event, customer)


def test_found_by_event_alone_or_with_its_customer(writer: IndexWriter, path: Path) -> None:
    entries = [entry("e", "a", 1), entry("e", "b", 2), entry("e", None, 3, topic=1), entry("f", "a", 4)]
    writer.add(b"".join(entries), {("decisions.v1", 3): 5}, 0)
    decided_a, decided_b = Place("decisions.v1", 3, 1), Place("decisions.v1", 3, 2)
    refused = Place("dead-letters.v1", 3, 3)
    assert find(path, "e") == [refused, decided_a, decided_b]
    assert find(path, "e", "a") == [refused, decided_a]  # whose it is could not be read: it may be a's
    assert find(path, "e", "c") == [refused]
    assert find(path, "g") == []


def test_every_entry_is_found_through_all_merges(
    writer: IndexWriter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "ROWS_MAX", 3_000)  # so that runs are closed too
    monkeypatch.setattr(index_module, "CHUNK_ROWS", 16)
    chance, offset = random.Random(1), 0
    added: dict[str, list[int]] = {}
    for _ in range(300):
        size = chance.randrange(0, 40)
        names = [f"e{chance.randrange(2_000)}" if chance.random() < 0.5 else "same" for _ in range(size)]
        writer.add(
            b"".join(entry(name, f"c{offset + n}", offset + n) for n, name in enumerate(names)),
            {("decisions.v1", 3): offset + size},
            offset,
        )
        for n, name in enumerate(names):
            added.setdefault(name, []).append(offset + n)
        offset += size
    for name, offsets in added.items():
        assert [place.offset for place in find(path, name)] == offsets
        assert [place.offset for place in find(path, name, f"c{offsets[0]}")] == offsets[:1]
    runs = sqlite3.connect(path).execute("SELECT level, count(*) FROM runs GROUP BY level").fetchall()
    assert all(count < 8 for level, count in runs if level >= 0)


def test_entries_and_progress_are_one(writer: IndexWriter, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer.add(entry("e", "a", 1), {("decisions.v1", 3): 2}, 0)

    def disk_is_full() -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(writer, "_merge", disk_is_full)
        with pytest.raises(sqlite3.OperationalError):
            writer.add(entry("e", "a", 2), {("decisions.v1", 3): 3}, 0)
    assert find(path, "e") == [Place("decisions.v1", 3, 1)]
    with IndexReader(path) as reader:
        assert reader.progress() == {("decisions.v1", 3): 2}
    writer.add(entry("e", "a", 2), {("decisions.v1", 3): 3}, 0)  # the same again, and the writer goes on
    assert len(find(path, "e")) == 2


def test_a_second_start_goes_on(writer: IndexWriter, path: Path) -> None:
    writer.add(entry("e", "a", 1), {("decisions.v1", 3): 2, ("outcomes.raw.v1", 0): 7}, 0)
    writer.close()
    again = IndexWriter(path, "log-1")
    assert again.progress() == {("decisions.v1", 3): 2, ("outcomes.raw.v1", 0): 7}
    again.close()


def test_what_the_log_has_dropped_is_forgotten(writer: IndexWriter, path: Path) -> None:
    writer.add(entry("old", "a", 1), {}, newest_ms=100)
    writer.add(entry("new", "a", 2), {}, newest_ms=200)
    writer.forget_before(200)
    assert find(path, "old") == []
    assert len(find(path, "new")) == 1


def test_an_index_of_another_log_is_refused(writer: IndexWriter, path: Path) -> None:
    writer.close()
    with pytest.raises(IndexCorrupt, match="log-1"):
        IndexWriter(path, "log-2")


@pytest.mark.parametrize("damage", ["not a database at all, just text" * 99, ""])
def test_a_damaged_file_is_put_aside_and_built_anew(path: Path, damage: str) -> None:
    open_and_add(path)
    content = path.read_bytes()
    path.write_bytes(damage.encode() if damage else content[:4_096] + b"\xff" * (len(content) - 4_096))
    with pytest.raises(IndexCorrupt, match="builds it anew"):
        open_and_add(path)
    set_aside(path)
    assert path.with_name("lookup.sqlite.corrupt").exists()
    anew = IndexWriter(path, "log-1")
    assert anew.progress() == {}
    anew.close()


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="WEIR_LOOKUP_FILE="):
        IndexWriter(tmp_path / "no" / "such" / "lookup.sqlite", "log-1")
    with pytest.raises(Fatal, match="is the lookup service running"):
        IndexReader(tmp_path / "lookup.sqlite")
