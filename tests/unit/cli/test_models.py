"""``weir models`` on a real bundle: the door of scoring, without the broker that brings it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from services.cli import model_moves, models
from services.cli.__main__ import main
from services.mesh.codec import Codec
from services.mesh.feature_set import pinned_feature_set
from services.mesh.ports import InRecord
from services.mesh.signing import generate_signing_key, load_signing_key
from services.mesh.topics import MODELS, Topic
from services.platform.endpoints import Endpoints
from services.retraining.build import Identity, build
from services.retraining.dataset import Horizon, Recorded
from services.retraining.train import Settings

HOUR_MS = 3_600_000
ROWS = 5_000


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with its key and an address where nobody answers."""
    path = tmp_path_factory.mktemp("models")
    generate_signing_key(path / "keys" / "signing.pem")
    Endpoints(kafka="127.0.0.1:1", redis="", schema_registry="").write(path)
    return path


@pytest.fixture(scope="module")
def release(data_dir: Path) -> dict[str, object]:
    """A model of the pinned features, trained and signed in a second."""
    features = pinned_feature_set()
    rng = np.random.default_rng(7)
    rows = rng.lognormal(3, 1, (ROWS, len(features.names))).astype(np.float32)
    label = (rng.random(ROWS) < np.where(rows[:, 0] > 40, 0.4, 0.02)).astype(np.int8)
    time_ms = np.arange(ROWS, dtype=np.int64) * HOUR_MS
    recorded = Recorded(
        rows=rows,
        event_time_ms=time_ms,
        label=label,
        observed_ms=time_ms + HOUR_MS,
        exact=np.ones(ROWS, np.bool_),
        weight=np.ones(ROWS, np.float32),
        held_out=np.zeros(ROWS, np.bool_),
    )
    identity = Identity(
        model_version="m1",
        feature_set=features.content_hash,
        feature_names=features.names,
        fallback_feature_names=tuple(features.names[column] for column in features.event_only),
        code_version="test",
    )
    horizon = Horizon(label_delay_ms=HOUR_MS, validation_ms=60 * 24 * HOUR_MS, genuine_after_ms=None)
    key = load_signing_key(data_dir / "keys" / "signing.pem")
    bundle = build(recorded, identity, ROWS * HOUR_MS, horizon, Settings(), key)
    return {
        "model_version": "m1",
        "move": "promote",
        "why": "first",
        "event_time_ms": ROWS * HOUR_MS,
        "manifest": bundle.manifest.decode(),
        "signature": bundle.signature,
        "model": bundle.model,
        "fallback_model": bundle.fallback,
        "actor": "retraining",
        "expects": None,
        "canary_percent": 0,
        "evidence": "",
    }


def with_journal(
    patch: pytest.MonkeyPatch, *released: dict[str, object], first: dict[str, object] | None = None
) -> list[dict[str, object]]:
    """A journal of ``released`` that takes what is appended; ``first`` gets in before the next append."""
    releases = list(released)

    def appended(bootstrap: str, topic: Topic, key: str, value: bytes) -> tuple[int, int]:
        if first is not None:
            releases.append(first)
        releases.append(Codec(MODELS.schemas[0]).decode(value))
        return 0, len(releases) - 1

    def read(bootstrap: str, topic: Topic) -> list[tuple[InRecord, dict[str, object]]]:
        assert topic is MODELS
        return [(InRecord(topic.name, 0, n, 1_000, b"", b"", ()), release) for n, release in enumerate(releases)]

    patch.setattr(models, "journal", read)
    patch.setattr(model_moves, "journal", read)
    patch.setattr(model_moves, "append", appended)
    patch.setattr(model_moves, "audit", lambda *about, **more: None)
    return releases


def test_a_signed_model_is_verified_shown_and_listed(
    data_dir: Path, release: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_journal(monkeypatch, release)
    at = ["--data-dir", str(data_dir)]
    assert main(["models", "verify", "m1", *at]) == 0
    assert "signed by" in capsys.readouterr().out
    assert main(["models", "show", "m1", "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out)["feature_set"] == pinned_feature_set().content_hash
    assert main(["models", "list", "--json", *at]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["model_version"], row["move"], row["why"], row["rows"] > 0) == ("m1", "promote", "first", True)
    assert main(["models", "list", *at]) == 0
    assert "m1 " in capsys.readouterr().out


def test_an_altered_model_is_refused(
    data_dir: Path, release: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = bytearray(release["model"])  # type: ignore[call-overload]
    model[len(model) // 2] ^= 1
    with_journal(monkeypatch, release | {"model": bytes(model)})
    assert main(["models", "verify", "m1", "--data-dir", str(data_dir)]) == 1
    assert "refused (altered)" in capsys.readouterr().err


def test_a_retired_version_still_shows_what_it_was(
    data_dir: Path, release: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = {"manifest": "", "signature": b"", "model": b"", "fallback_model": b"", "move": "retire", "why": "drift"}
    with_journal(monkeypatch, release, release | empty)
    at = ["--data-dir", str(data_dir)]
    assert main(["models", "show", "m1", *at]) == 0
    assert main(["models", "list", *at]) == 0
    assert "retire" in capsys.readouterr().out
    assert main(["models", "show", "m2", *at]) == 1
    assert "model m2: never released here; known are m1" in capsys.readouterr().err


def test_a_rollback_verifies_before_it_moves_and_brings_the_bundle(
    data_dir: Path, release: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--why", "worse", "--data-dir", str(data_dir)]
    later = release | {"model_version": "m2"}
    releases = with_journal(monkeypatch, release, later)
    assert main(["models", "rollback", "m1", *at]) == 0
    assert "m1 serves" in capsys.readouterr().out
    moved = releases[-1]
    assert (moved["move"], moved["expects"], moved["model"]) == ("rollback", "m2", release["model"])
    assert moved["actor"] != "retraining"

    altered = bytearray(release["model"])  # type: ignore[call-overload]
    altered[len(altered) // 2] ^= 1
    releases = with_journal(monkeypatch, release | {"model": bytes(altered)}, later)
    assert main(["models", "rollback", "m1", *at]) == 1
    assert "refused (altered)" in capsys.readouterr().err
    assert len(releases) == 2, "nothing was moved"


def test_a_move_that_somebody_else_overtook_is_void_and_says_so(
    data_dir: Path, release: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = release | {"model_version": "m3"}
    with_journal(monkeypatch, release, release | {"model_version": "m2"}, first=other)
    assert main(["models", "rollback", "m1", "--why", "x", "--data-dir", str(data_dir)]) == 1
    assert "is void: expects m2 to serve, m3 does" in capsys.readouterr().err


def test_lineage_and_status_say_what_made_a_model_and_who_serves(
    data_dir: Path, release: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--json", "--data-dir", str(data_dir)]
    with_journal(monkeypatch, release, release | {"model_version": "m2", "move": "challenge"})
    assert main(["models", "lineage", "m1", *at]) == 0
    lineage = json.loads(capsys.readouterr().out)
    assert (lineage["label_cut_off_ms"], lineage["code_version"]) == (ROWS * HOUR_MS, "test")
    assert len(lineage["data_hash"]) == 64
    assert main(["models", "status", *at]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["champion"], status["beside"], status["canary"]) == ("m1", ["m2"], None)


def test_an_unknown_version_is_named_with_those_that_are_known(
    data_dir: Path, release: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_journal(monkeypatch, release)
    assert main(["models", "promote", "m9", "--why", "x", "--data-dir", str(data_dir)]) == 1
    assert "m9: never released here; known are m1" in capsys.readouterr().err
