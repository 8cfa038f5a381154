"""One training, in a process of its own: ``python -m services.retraining.trainer --help``.

Reads ``labels.v1`` whole, writes the snapshot, reads it back, trains, signs, and leaves in ``--directory`` a folder
named like the model: ``snapshot.parquet``, ``lineage.json`` and ``release.avro``, the record for ``models.v1`` that the
controller (or ``weir models train``) appends. The folder appears whole, as the last thing that happens: a trainer that
is killed leaves nothing that anybody would take for a model. The last line on standard output is JSON: ``{"folder"}``
or ``{"refused"}``.

Exit status: 0 trained; 75 (EX_TEMPFAIL) refused, with the reason; 1 any other error.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from services.mesh.adapters.kafka_follower import TopicFollower
from services.mesh.adapters.kafka_journal import KafkaJournal
from services.mesh.bundle_parts import Bundle
from services.mesh.codec import Codec
from services.mesh.errors import WeirError
from services.mesh.feature_set import pinned_feature_set
from services.mesh.manifest import parse
from services.mesh.model_registry import Registry, release_of
from services.mesh.settings import parse_duration_ms
from services.mesh.signing import load_signing_key
from services.mesh.topics import LABELS, MODELS
from services.retraining import snapshot as snapshots
from services.retraining.build import Identity, Task, build
from services.retraining.dataset import LEARN_MS, Horizon, TrainingRefused
from services.retraining.handover import EXIT_REFUSED, LINEAGE, RELEASE, SNAPSHOT
from services.retraining.history import newest_observed_ms, snapshot_of
from services.retraining.labels import LabelReader, Labels
from services.retraining.train import Settings, margins_of

_CHUNK_RECORDS = 20_000
_LATENCY_ROWS, _LATENCY_CALLS = 128, 200


class Trainer:
    """One training from ``given`` (see ``--help``)."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._key = load_signing_key(given.signing_key)
        self._features = pinned_feature_set()
        self._horizon = Horizon(
            label_delay_ms=parse_duration_ms(given.label_delay, "--label-delay"),
            validation_ms=parse_duration_ms(given.validation, "--validation"),
            genuine_after_ms=None,
            learn_ms=parse_duration_ms(given.learn, "--learn"),
        )

    def run(self) -> Path:
        """The folder of the trained model. Raises TrainingRefused, SnapshotRefused."""
        began_s = time.monotonic()
        champion_name, champion = self._champion()
        parts, offsets = self._read()
        cut_off_ms = self._given.cut_off_ms or newest_observed_ms(parts)
        taken = snapshot_of(parts, cut_off_ms)
        parts.clear()
        read_s = time.monotonic() - began_s
        model_version = self._version(cut_off_ms, taken, champion_name)
        folder: Path = self._given.directory / model_version
        work = self._given.directory / f".{model_version}.{os.getpid()}"
        work.mkdir(parents=True)
        try:
            digest = snapshots.write(taken, work / SNAPSHOT, self._features)
            data = snapshots.read(work / SNAPSHOT, digest, self._features)
            lineage: dict[str, str | int | float] = {
                "snapshot_sha256": digest,
                "snapshot_rows": len(data.identity),
                "labels_topic": LABELS.name,
                "labels_offsets": " ".join(f"{p}:{start}-{end}" for p, (start, end) in sorted(offsets.items())),
                "champion": champion_name,
            }
            bundle = build(
                data.recorded,
                self._identity(model_version),
                cut_off_ms,
                self._horizon,
                Settings(),
                self._key,
                segments=data.segments,
                actions=Counter(data.actions),
                champion=champion,
                together=self._together,
                lineage=lineage,
            )
            self._leave(work, bundle, lineage, cut_off_ms)
            if folder.exists():
                shutil.rmtree(folder)  # the same data trained again
            os.rename(work, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        logging.info("trained %s in %.1f s, %.1f of them reading", model_version, time.monotonic() - began_s, read_s)
        return folder

    def _together(self, tasks: Sequence[Task]) -> list[Any]:
        """Each with one thread, several at once: the same bytes however many, and no thread waits for another."""
        with ThreadPoolExecutor(self._given.threads) as pool:
            return list(pool.map(lambda task: task(), tasks))

    def _champion(self) -> tuple[str, Bundle | None]:
        journal, registry = KafkaJournal(self._given.kafka, MODELS.name, "retraining.trainer"), Registry()
        codec = Codec(MODELS.schemas[0])
        try:
            for record in journal.read_to_end():
                registry.apply(codec.decode(record.value))  # type: ignore[arg-type]
        finally:
            journal.close()
        bundle = registry.bundles.get(registry.champion)
        if bundle is not None and parse(bundle.manifest).feature_set != self._features.content_hash:
            bundle = None  # it reads other columns: there is nothing to compare on
        return registry.champion, bundle

    def _read(self) -> tuple[list[Labels], dict[int, tuple[int, int]]]:
        reader = LabelReader(self._features, with_vectors=True)
        follower = TopicFollower(self._given.kafka, LABELS.name, "retraining.trainer")
        try:
            parts = [reader.read(values) for values in _chunks(follower.to_end())]
            damaged, foreign = sum(part.damaged for part in parts), sum(part.foreign for part in parts)
            if damaged or foreign:
                logging.warning("%d records do not decode, %d are of another feature set: left out", damaged, foreign)
            return parts, follower.offsets
        finally:
            follower.close()

    def _identity(self, model_version: str) -> Identity:
        names = self._features.names
        return Identity(
            model_version=model_version,
            feature_set=self._features.content_hash,
            feature_names=names,
            fallback_feature_names=tuple(names[i] for i in self._features.event_only),
            code_version=version("weir"),
        )

    def _version(self, cut_off_ms: int, taken: snapshots.Snapshot, champion: str) -> str:
        """Date of the cut-off, and digits that differ whenever anything that the manifest tells of does."""
        recorded = taken.recorded
        content = sha256(f"{self._features.content_hash}:{cut_off_ms}:{self._horizon}:{champion}".encode())
        for array in (recorded.event_time_ms, recorded.label, recorded.observed_ms):
            content.update(np.ascontiguousarray(array).tobytes())
        return f"{datetime.fromtimestamp(cut_off_ms / 1000, UTC):%Y%m%d}-{content.hexdigest()[:8]}"

    def _leave(self, work: Path, bundle: Bundle, lineage: dict[str, Any], cut_off_ms: int) -> None:
        manifest = parse(bundle.manifest)
        measures = dict(manifest.metrics) | {
            "score_ms": _score_ms(bundle.model, len(manifest.feature_names), manifest.iteration_range)
        }
        about = {
            "model_version": manifest.model_version,
            "feature_set": manifest.feature_set,
            "code_version": manifest.code_version,
            "data_hash": manifest.data_hash,
            "label_cut_off_ms": cut_off_ms,
            "rows": manifest.rows,
            "frauds": manifest.frauds,
            **lineage,
            "measures": measures,
        }
        (work / LINEAGE).write_bytes(orjson.dumps(about, option=orjson.OPT_INDENT_2))
        release = release_of(
            manifest.model_version,
            "challenge",
            why=self._given.why or f"trained on {manifest.rows:,} labelled events, {manifest.frauds:,} of them fraud",
            actor="retraining",
            event_time_ms=cut_off_ms,
            bundle=bundle,
        )
        (work / RELEASE).write_bytes(Codec(MODELS.schemas[0]).encode(release))


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, train, say why not."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    if given.nice:
        os.nice(given.nice)
    try:
        folder = Trainer(given).run()
    except (TrainingRefused, snapshots.SnapshotRefused) as refused:
        logging.info("refused: %s", refused)
        _say({"refused": str(refused)})
        return EXIT_REFUSED
    except WeirError as error:
        logging.error("fatal: %s", error)
        return 1
    _say({"folder": str(folder)})
    return 0


def _say(answer: dict[str, str]) -> None:
    sys.stdout.write(orjson.dumps(answer).decode() + "\n")


def _chunks(values: Iterator[bytes]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    for value in values:
        chunk.append(value)
        if len(chunk) == _CHUNK_RECORDS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _score_ms(model: bytes, features: int, span: tuple[int, int]) -> float:
    """How long a batch takes by the plain call, which is the slower of scoring's two.

    The best of ten medians: neighbours on the machine make calls slower, never faster, and it is the model that is
    judged here.
    """
    answer, rows = margins_of(model, span), np.zeros((_LATENCY_ROWS, features), dtype=np.float32)
    took = []
    for _ in range(_LATENCY_CALLS):
        began_s = time.perf_counter()
        answer(rows)
        took.append(time.perf_counter() - began_s)
    return float(np.median(np.reshape(took, (10, -1)), axis=1).min()) * 1_000


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.retraining.trainer",
        description="Train one model on the labels known so far and sign it; releases nothing.",
        epilog="example: python -m services.retraining.trainer --kafka localhost:9092 "
        "--signing-key data/keys/signing.pem --directory data/training",
    )
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT", help="bootstrap server")
    parser.add_argument("--signing-key", required=True, type=Path, metavar="PEM", help="Ed25519 private key, mode 0600")
    parser.add_argument("--directory", required=True, type=Path, metavar="D", help="where the model's folder goes")
    parser.add_argument("--label-delay", default="7d", help="age at which events are judged by (default: 7d)")
    parser.add_argument("--validation", default="7d", help="length of the validation part (default: 7d)")
    parser.add_argument(
        "--learn",
        default=f"{LEARN_MS}ms",
        help="learn from events so far behind the label delay, and from more where they hold few frauds (default: 28d)",
    )
    parser.add_argument("--cut-off-ms", type=int, default=0, metavar="MS", help="event time (default: newest label's)")
    parser.add_argument("--threads", type=int, default=1, help="trainings at once (default: 1)")
    parser.add_argument("--nice", type=int, default=0, help="niceness (default: 0)")
    parser.add_argument("--why", default="", help="reason kept in the journal")
    return parser


if __name__ == "__main__":
    sys.exit(main())
