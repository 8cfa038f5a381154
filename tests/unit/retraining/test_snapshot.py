"""The data of a training in a file: what was written is what is read, or nothing is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from labelled_records import DAY_MS, PIN, START_MS, encoded, labelled

from services.retraining.dataset import FRAUD, GENUINE, TrainingRefused
from services.retraining.history import newest_observed_ms, snapshot_of
from services.retraining.labels import LabelReader
from services.retraining.snapshot import Snapshot, SnapshotRefused, read, write

READER = LabelReader(PIN, with_vectors=True)


def taken(cut_off_ms: int = START_MS + 100 * DAY_MS) -> Snapshot:
    first = encoded(
        *(
            labelled(n, START_MS + n * 1_000, fraud=n % 7 == 0, scores={"a": 0.1}, channel="web" if n % 2 else None,
                     vector=np.full(len(PIN.names), n, "<f4").tobytes(), split_bucket=n % 10_000)
            for n in range(300)
        )
    )  # fmt: skip
    later = encoded(
        labelled(3, START_MS + 3_000, fraud=True, scores={"a": 0.1}, label_version=2, label_age_ms=20 * DAY_MS),
        labelled(7, START_MS + 7_000, fraud=False, scores={"a": 0.1}, label_version=2, label_age_ms=20 * DAY_MS),
    )
    return snapshot_of([READER.read(first), READER.read(later)], cut_off_ms)


def test_each_event_counts_once_with_the_last_label_known_by_the_cut_off() -> None:
    found = taken()
    label = dict(zip((found.recorded.event_time_ms - START_MS).tolist(), found.recorded.label.tolist(), strict=True))
    assert len(found.identity) == 300
    assert (label[3_000], label[7_000], label[14_000]) == (FRAUD, GENUINE, FRAUD)
    before = taken(START_MS + 10 * DAY_MS)
    label = dict(zip((before.recorded.event_time_ms - START_MS).tolist(), before.recorded.label.tolist(), strict=True))
    assert (label[3_000], label[7_000]) == (GENUINE, FRAUD), "what came later is not known yet"
    with pytest.raises(TrainingRefused, match="no label is known yet"):
        taken(START_MS)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    written = taken()
    digest = write(written, tmp_path / "s.parquet", PIN)
    found = read(tmp_path / "s.parquet", digest, PIN)
    for field in dataclasses.fields(written.recorded):
        assert np.array_equal(getattr(found.recorded, field.name), getattr(written.recorded, field.name)), field.name
    assert found.identity.tolist() == written.identity.tolist()
    assert (found.segments, found.actions) == (written.segments, written.actions)
    assert write(written, tmp_path / "again.parquet", PIN) == digest, "the same data has the same name"


def test_a_corrupt_snapshot_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    digest = write(taken(), path, PIN)
    whole = path.read_bytes()
    for at in (4, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(SnapshotRefused, match=r"sha256 .* written was"):
            read(path, digest, PIN)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SnapshotRefused, match="sha256"):
        read(path, digest, PIN)
    with pytest.raises(SnapshotRefused, match="No such file"):
        read(tmp_path / "gone.parquet", digest, PIN)


def test_a_snapshot_of_other_features_is_refused(tmp_path: Path) -> None:
    digest = write(taken(), tmp_path / "s.parquet", PIN)
    other = dataclasses.replace(PIN, content_hash="fs-other")
    with pytest.raises(SnapshotRefused, match="this code has fs-other"):
        read(tmp_path / "s.parquet", digest, other)


def test_the_clock_of_a_training_is_the_newest_observation() -> None:
    assert newest_observed_ms([]) == 0
    assert newest_observed_ms([READER.read(encoded(labelled(1, START_MS, fraud=True, scores={"a": 0.1})))]) == (
        START_MS + 7 * DAY_MS
    )
