"""Scores of a run beside a model trained offline on what was known: same payments, nothing from the future."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.mesh.codec import Codec
from services.mesh.feature_set import pinned_feature_set
from services.platform import recording
from services.platform.quality import WEEK_MS, quality_of
from services.platform.recording import Decisions
from services.platform.worth import DAY_MS, average_precision
from services.retraining.labels import LabelReader

FEATURES = pinned_feature_set()
DECISION, LABELLED = Codec("decision.v1.avsc"), Codec("labelled.v1.avsc")
START_MS = 20_000 * DAY_MS
DAYS, PER_DAY = 42, 60
DELAY_MS = 7 * DAY_MS


def decision(number: int, fraud: bool, signal: float, turned: bool, **fields: Any) -> dict[str, Any]:
    """One decided payment; its first two features are ``signal`` and ``turned``."""
    vector = np.zeros(len(FEATURES.names), "<f4")
    vector[:2] = signal, turned
    return {
        "event_id": f"e{number}", "customer_id": f"c{number % 50}", "terminal_id": "t1",
        "event_time_ms": START_MS + number * DAY_MS // PER_DAY, "amount_minor": 2_500, "currency": "EUR",
        "channel": None, "country": None, "device_id": None, "source_partition": 0, "source_offset": number,
        "raw_append_time_ms": 1, "event_append_time_ms": 1, "update_append_time_ms": 1,
        "feature_set": FEATURES.content_hash, "feature_status": "ok", "vector": vector.tobytes(),
        "features_append_time_ms": 1, "score": 0.9 if fraud else 0.1, "model_version": "m1", "split_bucket": 1,
        "challenger_scores": [], "explanation_status": "none", "contributions": [], "score_append_time_ms": 1,
        "action": "approve", "reasons": [], "rule_hits": [], "policy_version": "p1", "propensity": 1.0,
        "shadow_verdicts": [], "conditions": [], **fields,
    }  # fmt: skip


def labelled(record: dict[str, Any], fraud: bool) -> bytes:
    own = {
        "decision_append_time_ms": 1, "decision_offset": 0, "label": "fraud" if fraud else "genuine",
        "label_version": 1, "label_source": "chargeback", "outcome_id": "o", "revises": None,
        "observed_time_ms": record["event_time_ms"] + DELAY_MS, "label_age_ms": DELAY_MS, "outcome_append_time_ms": 1,
    }  # fmt: skip
    return LABELLED.encode(record | own)


class Log:
    """What a broker would hold."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        fraud = rng.random(DAYS * PER_DAY) < 0.2
        # From day 35 on the signal means the opposite: whoever knew the labels of that week would score it right.
        turned = np.arange(DAYS * PER_DAY) >= 35 * PER_DAY
        signal = np.where(fraud != turned, 1.0, 0.0) + 0.01 * rng.random(len(fraud))
        rows = zip(fraud.tolist(), signal.tolist(), turned.tolist(), strict=True)
        records = [decision(number, *row) for number, row in enumerate(rows)]
        self.fraud = fraud
        self.decisions = [DECISION.encode(record) for record in records]
        self.labels = [labelled(record, bool(f)) for record, f in zip(records, fraud, strict=True)]
        self.truth = {(r["customer_id"], r["event_id"]): bool(f) for r, f in zip(records, fraud, strict=True)}


@pytest.fixture(scope="module")
def log() -> Log:
    return Log()


class Message:
    def __init__(self, value: bytes) -> None:
        self._value = value

    def value(self) -> bytes:
        return self._value


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
