"""Recorded decisions on disk: however they came in, they come out as if read at once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recorded import BUSY, cut, decided, events, scores
from test_desk_policies import PIN

from services.cli import decision_history
from services.cli.decision_history import _Files, history_of, rows_of
from services.decisions.history import History
from services.mesh.ports import InRecord


@pytest.fixture(scope="module")
def recorded() -> list[InRecord]:
    found = decided(BUSY, cut(scores([{**event, "customer_id": "c4"} for event in events(900)]), 97))
    return [record._replace(offset=2 * record.offset) for record in found]  # as behind commit markers


def stretch(records: list[InRecord]) -> tuple[decision_history.Arrays, int, int]:
    offsets = [record.offset for record in records]
    return rows_of([r.value or b"" for r in records], offsets, PIN), offsets[0], offsets[-1] + 1


def history(files: _Files) -> History:
    found = files.all()
    assert found is not None
    return history_of({0: found}, {}, PIN, 4)[0]


def same(one: History, other: History) -> None:
    every = slice(0, len(one))
    assert len(one) == len(other)
    for name in one.texts:
        assert one.texts[name].objects(every).tolist() == other.texts[name].objects(every).tolist(), name
    assert one.event_id.objects(every).tolist() == other.event_id.objects(every).tolist()
    for name in one.numbers:
        assert np.array_equal(one.numbers[name], other.numbers[name], equal_nan=True), name
    for name in ("offset", "action", "wanted", "said", "hit_rows"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert np.array_equal(one.rows, other.rows, equal_nan=True)
    hits = slice(0, len(one.hit_rows))
    assert one.rule_hits.objects(hits).tolist() == other.rule_hits.objects(hits).tolist()


@pytest.mark.parametrize("rows_file", [1, 250, 10_000])
def test_in_stretches_or_at_once_they_are_the_same(
    recorded: list[InRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_file: int
) -> None:
    monkeypatch.setattr(decision_history, "ROWS_FILE", rows_file)
    for batch in cut(recorded, 130):
        _Files(tmp_path / "parts", "decisions.v1", 0).add(*stretch(batch))  # each time a process of its own
    whole = _Files(tmp_path / "whole", "decisions.v1", 0)
    whole.add(*stretch(recorded))
    parts = _Files(tmp_path / "parts", "decisions.v1", 0)
    assert parts.end == whole.end == recorded[-1].offset + 1
    assert len(list((tmp_path / "parts").iterdir())) == {1: 7, 250: 4, 10_000: 1}[rows_file]
    same(history(parts), history(whole))


def test_a_file_whose_successor_holds_it_is_taken_away(recorded: list[InRecord], tmp_path: Path) -> None:
    """A process may die between writing the longer file and taking away the shorter one."""
    files = _Files(tmp_path, "decisions.v1", 0)
    files.add(*stretch(recorded[:300]))
    (shorter,) = tmp_path.iterdir()
    shutil.copy(shorter, tmp_path / "kept")
    files.add(*stretch(recorded[300:]))
    shutil.move(tmp_path / "kept", shorter)
    again = _Files(tmp_path, "decisions.v1", 0)
    assert len(list(tmp_path.iterdir())) == 1
    assert len(history(again)) == 900


def test_partitions_and_topics_do_not_mix(recorded: list[InRecord], tmp_path: Path) -> None:
    _Files(tmp_path, "decisions.v1", 1).add(*stretch(recorded[:10]))
    assert _Files(tmp_path, "decisions.v1", 11).all() is None
    assert _Files(tmp_path, "labels.v1", 1).all() is None
    assert _Files(tmp_path, "decisions.v1", 0).end == 0


def test_vectors_of_another_feature_set_are_left_out_and_counted(recorded: list[InRecord]) -> None:
    other = replace(PIN, content_hash="another")
    columns = rows_of([r.value or b"" for r in recorded], [r.offset for r in recorded], other)
    found, left_out = history_of({0: columns}, {}, other, 4)
    assert (len(found), left_out) == (0, 900)


def test_what_is_no_decision_is_no_row(recorded: list[InRecord]) -> None:
    values = [recorded[0].value or b"", b"junk", (recorded[1].value or b"")[:-3], recorded[2].value or b""]
    found, _ = history_of({0: rows_of(values, [0, 2, 4, 6], PIN)}, {}, PIN, 4)
    assert found.offset.tolist() == [0, 6]
    assert found.event_id.objects(slice(0, 2)).tolist() == ["e0", "e2"]
