"""What a run leaves for whoever judges it: decisions, the first model's scores, moments."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from decided import DAYS, FEATURES, PER_DAY, START_MS, Log, Message

from services.mesh.bundle_parts import Bundle
from services.mesh.codec import Codec
from services.mesh.model_registry import release_of
from services.mesh.topics import DECISIONS, DRIFT_ALERTS, LABELS, MODELS
from services.platform import recording
from services.platform.judging import MOMENTS, RECORDING, judge_file, record
from services.platform.worth import DAY_MS, average_precision
from services.retraining.build import Identity, build
from services.retraining.dataset import Horizon
from services.retraining.history import snapshot_of
from services.retraining.labels import LabelReader
from services.retraining.train import Settings

RELEASE = Codec("model_release.v1.avsc")


@pytest.fixture(scope="module")
def log() -> Log:
    return Log()


def bundle_of(log: Log) -> Bundle:
    """A model trained on what was known on day 28."""
    names = FEATURES.names
    return build(
        snapshot_of([LabelReader(FEATURES, with_vectors=True).read(log.labels)], START_MS + 28 * DAY_MS).recorded,
        Identity(
            model_version="m7",
            feature_set=FEATURES.content_hash,
            feature_names=names,
            fallback_feature_names=tuple(names[place] for place in FEATURES.event_only),
            code_version="1",
        ),
        START_MS + 28 * DAY_MS,
        Horizon(label_delay_ms=7 * DAY_MS, validation_ms=7 * DAY_MS, genuine_after_ms=None, rows_min=100, frauds_min=5),
        Settings(trees=10),
        Ed25519PrivateKey.generate(),
    )


def broker(log: Log, monkeypatch: pytest.MonkeyPatch, models: list[bytes]) -> None:
    held = {DECISIONS.name: log.decisions, LABELS.name: log.labels, MODELS.name: models, DRIFT_ALERTS.name: []}
    monkeypatch.setattr(
        recording, "committed_records", lambda _, topic, *__: iter([Message(value) for value in held[topic.name]])
    )


def test_a_run_is_recorded_with_the_first_models_scores(
    log: Log, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    release = release_of("m7", "promote", why="first", actor="a", event_time_ms=START_MS + 5, bundle=bundle_of(log))
    broker(log, monkeypatch, [RELEASE.encode(release)])  # type: ignore[arg-type]
    record("nowhere", tmp_path)
    table = pq.read_table(tmp_path / RECORDING)
    assert table.num_rows == DAYS * PER_DAY
    assert {"event_id", "event_time_ms", "amount_minor", "score", "model_version"} <= set(table.column_names)
    frozen = table["first_model_score"].to_numpy()
    known = np.arange(DAYS * PER_DAY) < 35 * PER_DAY  # before the world turns round
    assert average_precision(frozen[known], log.fraud[known]) > 0.99
    assert average_precision(frozen[~known], log.fraud[~known]) < 0.5
    left = json.loads((tmp_path / MOMENTS).read_text())
    assert left["first_model"] == "m7"
    assert left["moments"] == [[START_MS + 5, "promote", "m7: first"]]
    assert len(left["labelled_ms"]) == DAYS * PER_DAY


def test_a_run_without_a_model_has_no_first_scores(log: Log, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broker(log, monkeypatch, [])
    record("nowhere", tmp_path)
    assert np.isnan(pq.read_table(tmp_path / RECORDING)["first_model_score"].to_numpy()).all()
    assert json.loads((tmp_path / MOMENTS).read_text())["first_model"] is None


def test_a_file_is_judged_by_its_own_truth(log: Log, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broker(log, monkeypatch, [])
    file = tmp_path / "payments.jsonl"
    lines = [
        {
            "event_id": event, "customer_id": customer, "terminal_id": "t", "amount_minor": 1, "is_fraud": fraud,
            "event_time_ms": START_MS + int(event[1:]) * DAY_MS // PER_DAY,
        }
        for (customer, event), fraud in log.truth.items()
    ]  # fmt: skip
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    quality = judge_file("nowhere", str(file), "7d")
    assert quality is not None
    assert (quality.online, quality.payments, quality.left_out) == (1.0, 21 * PER_DAY, 0)


def test_a_file_without_truth_is_not_judged(log: Log, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broker(log, monkeypatch, [])
    file = tmp_path / "payments.jsonl"
    file.write_text('{"event_id":"e1","event_time_ms":5,"customer_id":"c","terminal_id":"t","amount_minor":1}\n')
    assert judge_file("nowhere", str(file), "7d") is None
