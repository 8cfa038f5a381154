"""One training, from labels to a folder: the log is a list here, everything else is real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from labelled_records import DAY_MS, LABELLED, PIN, START_MS, labelled

from services.mesh.bundle import verify
from services.mesh.codec import Codec
from services.mesh.manifest import parse
from services.mesh.model_registry import bundle_of, release_of
from services.mesh.ports import InRecord
from services.mesh.signing import generate_signing_key, load_public_key
from services.retraining import gates, snapshot, trainer
from services.retraining.events import Trained, TrainingFailed
from services.retraining.handover import EXIT_REFUSED, LINEAGE, RELEASE, SNAPSHOT
from services.retraining.outcome import outcome_of
from services.retraining.settings import Rules

DAYS, PER_DAY = 28, 400
RELEASES = Codec("model_release.v1.avsc")


def history(flipped: float = 0.0) -> list[bytes]:
    """Four weeks; one amount in twelve is large and often fraud; labels after a week; a share of them flipped."""
    rng = np.random.default_rng(11)
    found = []
    for n in range(DAYS * PER_DAY):
        vector = rng.lognormal(3, 0.5, len(PIN.names)).astype("<f4")
        vector[0] = 200.0 if rng.random() < 0.08 else vector[0]
        fraud = bool(rng.random() < (0.35 if vector[0] == 200.0 else 0.001)) != bool(rng.random() < flipped)
        at_ms = START_MS + n * DAY_MS // PER_DAY
        found.append(
            LABELLED.encode(
                labelled(
                    n, at_ms, fraud=fraud, scores={"m0": 0.01}, split_bucket=n * 37 % 10_000, vector=vector.tobytes()
                )
            )
        )
    return found


class Log:
    """Both topics, as the trainer reads them."""

    def __init__(self, labels: list[bytes], releases: list[bytes]) -> None:
        self.labels, self.releases = labels, releases
        self.offsets = {0: (0, len(labels))}

    def follower(self, *_: str) -> Log:
        return self

    def to_end(self) -> Iterator[bytes]:
        return iter(self.labels)

    def read_to_end(self) -> list[InRecord]:
        return [InRecord("models.v1", 0, n, 1, b"k", value, ()) for n, value in enumerate(self.releases)]

    def close(self) -> None:
        pass


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    key = tmp_path / "keys" / "signing.pem"
    key.parent.mkdir()
    generate_signing_key(key)

    def run(labels: list[bytes], releases: list[bytes] | None = None, *more: str) -> tuple[int, dict[str, str]]:
        log = Log(labels, releases or [])
        monkeypatch.setattr(trainer, "TopicFollower", log.follower)
        monkeypatch.setattr(trainer, "KafkaJournal", log.follower)
        argv = ["--kafka", "none:1", "--signing-key", str(key), "--directory", str(tmp_path / "training"), *more]
        status = trainer.main(argv)
        answer: dict[str, str] = orjson.loads(capsys.readouterr().out.splitlines()[-1])
        return status, answer

    run.directory = tmp_path / "training"  # type: ignore[attr-defined]
    run.public_key = load_public_key(Path(f"{key}.pub"))  # type: ignore[attr-defined]
    return run


def test_a_training_leaves_a_signed_bundle_its_data_and_its_lineage(train: Any) -> None:
    status, answer = train(history())
    assert status == 0
    folder = Path(answer["folder"])
    release: Any = RELEASES.decode((folder / RELEASE).read_bytes())
    bundle = bundle_of(release)
    assert bundle is not None
    manifest = verify(bundle, [train.public_key], PIN.content_hash, PIN.names)
    about = orjson.loads((folder / LINEAGE).read_bytes())
    assert manifest.model_version == folder.name == about["model_version"]
    assert manifest.parameters["snapshot_sha256"] == snapshot.sha256_of(folder / SNAPSHOT) == about["snapshot_sha256"]
    assert manifest.parameters["labels_offsets"] == f"0:0-{DAYS * PER_DAY}"
    assert manifest.label_cut_off_ms == START_MS + (DAYS * PER_DAY - 1) * DAY_MS // PER_DAY + 7 * DAY_MS
    assert manifest.metrics["average_precision"] > 0.25
    assert gates.before_shadow(about["measures"], about["feature_set"], PIN.content_hash, Rules()) == []
    assert list(train.directory.glob(".*")) == [], "nothing half done is left"
    assert outcome_of(0, orjson.dumps(answer)) == Trained(
        model_version=folder.name, feature_set=PIN.content_hash, folder=str(folder), measures=about["measures"]
    )


@pytest.mark.parametrize(("given", "days"), [((), 28), (("--learn", "14d"), 14)])
def test_how_far_back_it_learns_is_given_and_told(train: Any, given: tuple[str, ...], days: int) -> None:
    _, answer = train(history(), None, *given)
    bundle = bundle_of(RELEASES.decode((Path(answer["folder"]) / RELEASE).read_bytes()))  # type: ignore[arg-type]
    assert bundle is not None
    manifest = parse(bundle.manifest)
    assert manifest.parameters["horizon_learn_ms"] == days * DAY_MS
    assert manifest.rows == DAYS * PER_DAY, "with so few frauds all of them are learned from"


def test_the_champion_is_measured_on_the_same_rows(train: Any) -> None:
    """On all of them, and beside the new model on those that it cannot have learned from."""
    labels = history()
    _, answer = train(labels[: 23 * PER_DAY])
    first: Any = RELEASES.decode((Path(answer["folder"]) / RELEASE).read_bytes())
    promoted = release_of("m0", "promote", why="t", actor="t", event_time_ms=1, bundle=bundle_of(first))
    _, answer = train(labels, [RELEASES.encode(promoted)])
    measures = orjson.loads((Path(answer["folder"]) / LINEAGE).read_bytes())["measures"]
    assert measures["champion_average_precision"] > measures["average_precision"], "it has seen most of them"
    assert 0 < measures["champion_unseen_rows"] < measures["validation_rows"]
    assert 0 < measures["champion_average_precision_unseen"] < 1
    assert 0 < measures["own_average_precision_unseen"] < 1
    second: Any = RELEASES.decode((Path(answer["folder"]) / RELEASE).read_bytes())
    assert parse(second["manifest"].encode()).parameters["champion"] == "m0"


def test_the_same_data_makes_the_same_model(train: Any) -> None:
    _, one = train(history())
    content = (Path(one["folder"]) / RELEASE).read_bytes()
    _, two = train(list(reversed(history())))
    assert one == two
    assert (Path(two["folder"]) / RELEASE).read_bytes() == content


def test_poisoned_labels_are_refused_at_the_gate(train: Any) -> None:
    """One label in twenty flipped: frauds turn up where no model sees any."""
    status, answer = train(history(flipped=0.05))
    assert status == 0
    about = orjson.loads((Path(answer["folder"]) / LINEAGE).read_bytes())
    (why,) = gates.before_shadow(about["measures"], about["feature_set"], PIN.content_hash, Rules())
    assert why.startswith("labels:")


def test_too_little_to_learn_from_is_refused_with_the_reason(train: Any) -> None:
    status, answer = train(history()[: 9 * PER_DAY])
    assert status == EXIT_REFUSED
    assert "train part has" in answer["refused"]
    assert outcome_of(status, orjson.dumps(answer)) == TrainingFailed(why=answer["refused"])
    assert not train.directory.exists() or list(train.directory.iterdir()) == []


def test_a_snapshot_that_the_disk_damages_is_refused(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    written = snapshot.write

    def damaged(taken: Any, path: Path, features: Any) -> str:
        digest = written(taken, path, features)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        return digest

    monkeypatch.setattr(snapshot, "write", damaged)
    status, answer = train(history())
    assert status == EXIT_REFUSED
    assert "take a new one from the log" in answer["refused"]
    assert list(train.directory.iterdir()) == []


def test_damaged_records_are_left_out(train: Any) -> None:
    labels = history()
    status, answer = train([b"junk", *labels, labels[0][:-3]])
    assert status == 0
    assert orjson.loads((Path(answer["folder"]) / LINEAGE).read_bytes())["snapshot_rows"] == len(labels)


@pytest.mark.parametrize(
    ("status", "output", "why"),
    [(-9, b"", "signal 9"), (1, b"", "exit status 1"), (0, b"no json", "exit status 0"), (75, b"{}", "exit status 75")],
)
def test_a_trainer_that_ends_otherwise_leaves_no_model(status: int, output: bytes, why: str) -> None:
    ended = outcome_of(status, output)
    assert isinstance(ended, TrainingFailed)
    assert f"ended with {why} and left no model" in ended.why
