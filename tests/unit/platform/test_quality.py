"""Scores of a run beside a model trained offline on what was known: same payments, nothing from the future."""

from __future__ import annotations

import numpy as np
import pytest
from decided import DAYS, FEATURES, PER_DAY, START_MS, Log, Message

from services.platform import recording
from services.platform.quality import WEEK_MS, quality_of
from services.platform.recording import Decisions
from services.platform.worth import DAY_MS, average_precision
from services.retraining.labels import LabelReader


@pytest.fixture(scope="module")
def log() -> Log:
    return Log()


@pytest.fixture
def decisions(log: Log, monkeypatch: pytest.MonkeyPatch) -> Decisions:
    monkeypatch.setattr(recording, "committed_records", lambda *_: iter([Message(value) for value in log.decisions]))
    return recording.read_decisions("nowhere")


def test_decisions_are_read_back_whole(log: Log, decisions: Decisions) -> None:
    assert len(decisions) == DAYS * PER_DAY
    assert decisions.event_id[:2].tolist() == ["e0", "e1"]
    assert decisions.score.tolist() == np.where(log.fraud, 0.9, 0.1).tolist()
    assert decisions.exact.all()
    assert not decisions.fallback.any()
    assert decisions.rows.shape == (DAYS * PER_DAY, len(FEATURES.names))
    assert set(decisions.model_version.tolist()) == {"m1"}


def test_online_and_offline_are_judged_on_the_same_three_weeks(log: Log, decisions: Decisions) -> None:
    labels = [LabelReader(FEATURES, with_vectors=True).read(log.labels)]
    quality = quality_of(decisions, labels, log.truth, threads=1)
    assert quality is not None
    assert (quality.payments, quality.frauds) == (21 * PER_DAY, int(log.fraud[-21 * PER_DAY :].sum()))
    assert (quality.from_ms, quality.to_ms) == (START_MS + 21 * DAY_MS, START_MS + 42 * DAY_MS)
    assert quality.online == 1.0
    assert "all whose truth the input tells (0 left out)" in quality.population


def test_offline_knows_no_label_before_its_time(log: Log, decisions: Decisions) -> None:
    labels = [LabelReader(FEATURES, with_vectors=True).read(log.labels)]
    honest = quality_of(decisions, labels, log.truth, threads=1)
    early = [LabelReader(FEATURES, with_vectors=True).read(log.labels)]
    early[0].observed_ms[:] = 0  # a model that learns from the future
    cheating = quality_of(decisions, early, log.truth, threads=1)
    assert honest is not None
    assert cheating is not None
    assert honest.offline < 0.9
    assert cheating.offline > 0.99


def test_payments_of_unknown_truth_are_left_out_and_counted(log: Log, decisions: Decisions) -> None:
    labels = [LabelReader(FEATURES, with_vectors=True).read(log.labels)]
    last = max(log.truth, key=lambda identity: int(identity[1][1:]))
    quality = quality_of(decisions, labels, {k: v for k, v in log.truth.items() if k != last}, threads=1)
    assert quality is not None
    assert (quality.payments, quality.left_out) == (21 * PER_DAY - 1, 1)


def test_without_labels_there_is_nothing_to_compare_with(log: Log, decisions: Decisions) -> None:
    labels = [LabelReader(FEATURES, with_vectors=True).read(log.labels)]
    labels[0].observed_ms[:] = 2**60
    assert quality_of(decisions, labels, log.truth, threads=1) is None


def test_weeks_are_weeks() -> None:
    assert WEEK_MS == 7 * DAY_MS
    assert np.isnan(average_precision(np.ones(1), np.zeros(1, bool)))
