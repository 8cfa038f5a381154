"""A thousand hot swaps under load: no score lost, doubled or mixed; memory flat; latency as without swaps.

    python -m loadtests.swaps [--swaps 1000] [--rate 1000] [--swaps-per-s 10]

A real broker and the real scoring process. Vectors go in at a fixed rate, without swaps (after a warm-up, and once more
at the end) and while two models take turns in serving, each beside the other; after every fiftieth swap comes a model
that was never seen, which passes its trial in a child process and serves from the next turn on. Moves go on until the
stage has counted so many swaps: those between the same two batches are one, as are those that wait for a trial. Every
score is worked out again from the vector and the model that it names, to the bit: a score made by a mix is nobody's.
Latency is from the broker's append of the vector to its append of the score, which one clock measures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from loadtests.blank_record import blank_record
from services.mesh.adapters.kafka_reader import reader_settings
from services.mesh.bundle import sign
from services.mesh.bundle_parts import Bundle
from services.mesh.calibration import Platt, calibrated
from services.mesh.codec import Codec
from services.mesh.feature_set import pinned_feature_set
from services.mesh.headers import WEIR, Hop, pack_hop
from services.mesh.manifest import Golden, Manifest, parse
from services.mesh.model_registry import release_of
from services.mesh.records import ModelMove
from services.mesh.signing import generate_signing_key, load_signing_key
from services.mesh.topics import DEAD_LETTERS, FEATURES, MODELS, PROFILES, SCORES
from services.platform.servers import running
from services.retraining.build import Identity, build
from services.retraining.dataset import Horizon, Recorded
from services.retraining.train import Settings, margins
from services.scoring.model import Scorer

HOUR_MS = 3_600_000
VECTORS = 500
NEW_EVERY = 50
PARTITIONS = 4
READY_S_MAX = 60.0
COUNTED_EVERY_S = 1.0  # as often as a close monitoring would look


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was measured."""

    sent: int
    scored: int
    doubled: int
    mixed: int  # scores that the model which they name does not give
    served: int  # distinct models
    swaps: float  # counted by the stage itself
    refused: float
    latency_ms_calm: tuple[float, float]  # p50, p99 without swaps, before them and after
    latency_ms_during: tuple[float, float]
    rss_mb_first: float  # after the first tenth of the swaps
    rss_mb_last: float

    @property
    def is_clean(self) -> bool:
        """Nothing lost, nothing doubled, nothing mixed, nobody refused."""
        return self.sent == self.scored and not self.doubled and not self.mixed and not self.refused


class Models:
    """Versions by the hundred, from two boosters: what differs is the name and the calibration, hence the score."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._made = [_trained(key, seed) for seed in (1, 2)]
        self.scorers: dict[str, Scorer] = {}

    def new(self) -> tuple[str, Bundle]:
        """A version that nobody has seen."""
        number = len(self.scorers)
        bundle, manifest = self._made[number % 2]
        calibration = Platt(slope=1.0 + number / 1_000, intercept=-1.0)
        version = f"m{number}"
        own = dataclasses.replace(manifest, model_version=version, calibration=calibration)
        own = dataclasses.replace(own, golden=_golden(own, bundle))
        self.scorers[version] = Scorer(own, bundle.model, bundle.fallback)
        return version, sign(own, bundle.model, bundle.fallback, self._key)


class Bench:
    """The scoring process with its topics."""

    def __init__(self, kafka: str, path: Path) -> None:
        self.kafka, self._path = kafka, path
        features = pinned_feature_set()
        key = path / "keys" / "signing.pem"
        generate_signing_key(key)
        self.models = Models(load_signing_key(key))
        rng = np.random.default_rng(3)
        self.rows = rng.lognormal(3, 1, (VECTORS, len(features.names))).astype("<f4")
        blank = blank_record(FEATURES.schemas[0])
        codec = Codec(FEATURES.schemas[0])
        same = blank | {"event_time_ms": 1, "amount_minor": 100, "currency": "EUR", "feature_status": "ok",
                        "feature_set": features.content_hash}  # fmt: skip
        self._encode = lambda n: codec.encode(
            same | {"event_id": str(n), "customer_id": f"c{n % 997}", "vector": self.rows[n % VECTORS].tobytes()}
        )
        self._producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5, "enable.idempotence": True})
        self._journal = Producer({"bootstrap.servers": kafka, "linger.ms": 1, "message.max.bytes": MODELS.bytes_max})
        self._release = Codec(MODELS.schemas[0])
        self.sent = 0
        self._health = path / "health.json"
        env = os.environ | {
            "WEIR_KAFKA": kafka,
            "WEIR_PARTITIONS": str(PARTITIONS),
            "WEIR_HEALTH_FILE": str(self._health),
            "WEIR_MODEL_KEYS": f"{key}.pub",
            "OMP_NUM_THREADS": "1",
        }
        self.champion, self.other = self.models.new(), self.models.new()
        self.move(("promote", *self.champion), ("challenge", *self.other))
        self.process = subprocess.Popen([sys.executable, "-m", "services.scoring"], env=env, stderr=subprocess.DEVNULL)
        end_s = time.monotonic() + READY_S_MAX
        while "weir_ready{" not in self.metrics() or self.metric("weir_ready") != 1:
            assert time.monotonic() < end_s, "scoring is not ready"
            assert self.process.poll() is None, "scoring has ended"
            time.sleep(0.1)

    def move(self, *moves: tuple[ModelMove, str, Bundle | None]) -> None:
        """Append, in order."""
        for move, version, bundle in moves:
            release = release_of(version, move, why="load", actor="loadtests", event_time_ms=1, bundle=bundle)
            self._journal.produce(MODELS.name, self._release.encode(release), version.encode())
        self._journal.flush(10)

    def swap(self, number: int) -> None:
        """The one beside serves, and the other way round; now and then somebody new."""
        before, self.champion = self.champion, self.other
        self.other = before
        self.move(("promote", self.champion[0], None), ("challenge", before[0], None))
        if number % NEW_EVERY == NEW_EVERY - 1:
            leaving, self.other = self.other, self.models.new()
            self.move(("retire", leaving[0], None), ("challenge", *self.other))

    def send(self, seconds: float, rate: float, swaps_per_s: float = 0.0, swaps: int = 0) -> None:
        """Vectors for so long, and moves until the stage has counted so many swaps more."""
        began_s, done, sent = time.monotonic(), 0, 0
        goal, look_s = self.counted() + swaps, began_s + COUNTED_EVERY_S
        enough = not swaps
        while (elapsed_s := time.monotonic() - began_s) < seconds or not enough:
            if swaps and time.monotonic() > look_s:
                enough, look_s = self.counted() >= goal, look_s + COUNTED_EVERY_S
            while sent < elapsed_s * rate:
                n = self.sent
                header = [(WEIR, pack_hop(Hop(0, n, n % PARTITIONS, n // PARTITIONS, 0)))]
                self._producer.produce(FEATURES.name, self._encode(n), b"k", n % PARTITIONS, headers=header)
                self.sent += 1
                sent += 1
            if not enough and done < elapsed_s * swaps_per_s:
                self.swap(done)
                done += 1
            self._producer.poll(0)
            time.sleep(0.002)
        self._producer.flush(20)

    def counted(self) -> float:
        """Swaps, by the stage itself."""
        return self.metric("weir_model_swaps_total")

    def metrics(self) -> str:
        """As Prometheus sees them; empty before there are any."""
        try:
            port = json.loads(self._health.read_text())["port"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
                text: str = answer.read().decode()
            return text
        except (OSError, ValueError, KeyError):
            return ""

    def metric(self, name: str) -> float:
        """One number without a label of its own; 0 before it was counted."""
        found = re.search(rf"^{name}{{[^}}]*}} (\S+)$", self.metrics(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def rss_mb(self) -> float:
        """Of the scoring process."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 1e6

    def scores(self) -> list[tuple[int, str, float, int]]:
        """Every committed score until all have come: event, model, score, latency in ms."""
        codec, found, consumer = Codec(SCORES.schemas[0]), [], Consumer(reader_settings(self.kafka, "swaps"))
        consumer.subscribe([SCORES.name])
        quiet_s = time.monotonic() + 15.0
        try:
            while time.monotonic() < quiet_s:
                for message in consumer.consume(2_000, 0.2):
                    if message.error() is not None:
                        continue
                    quiet_s = time.monotonic() + (2.0 if len(found) >= self.sent else 15.0)
                    score = codec.decode(message.value())
                    latency_ms = message.timestamp()[1] - score["features_append_time_ms"]
                    found.append((int(score["event_id"]), score["model_version"], score["score"], latency_ms))
            return found
        finally:
            consumer.close()

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(15)


def measure(kafka: str, path: Path, swaps: int, rate: float, swaps_per_s: float, quiet_s: float) -> Found:
    """The whole test on a broker that has no topics of these names yet."""
    admin = AdminClient({"bootstrap.servers": kafka})
    topics = (FEATURES, SCORES, MODELS, DEAD_LETTERS, PROFILES)
    for done in admin.create_topics(
        [NewTopic(t.name, t.partition_count(PARTITIONS), 1, config=t.config()) for t in topics]
    ).values():
        done.result(10)
    bench = Bench(kafka, path)
    try:
        bench.send(quiet_s, rate)  # warms up
        warm = bench.sent
        bench.send(quiet_s, rate)
        calm = bench.sent
        bench.send(0, rate, swaps_per_s, max(1, swaps // 10))
        rss_mb_first = bench.rss_mb()
        bench.send(0, rate, swaps_per_s, swaps - max(1, swaps // 10))
        moved = bench.sent
        bench.send(quiet_s, rate)
        found = bench.scores()
        rss_mb_last = bench.rss_mb()
        counted, refused = bench.counted(), bench.metric("weir_models_refused_total")
    finally:
        bench.close()
    known = np.zeros(VECTORS, dtype=np.bool_)
    expected = {version: scorer.score(bench.rows, known) for version, scorer in bench.models.scorers.items()}
    times = Counter(event for event, *_ in found)
    return Found(
        sent=bench.sent,
        scored=len(times),
        doubled=sum(count - 1 for count in times.values()),
        mixed=sum(score != expected[version][event % VECTORS] for event, version, score, _ in found),
        served=len({version for _, version, *_ in found}),
        swaps=counted,
        refused=refused,
        latency_ms_calm=_percentiles([ms for event, *_, ms in found if warm <= event < calm or event >= moved]),
        latency_ms_during=_percentiles([ms for event, *_, ms in found if calm <= event < moved]),
        rss_mb_first=rss_mb_first,
        rss_mb_last=rss_mb_last,
    )


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=1_000)
    parser.add_argument("--rate", type=float, default=1_000.0, help="vectors a second (default 1000)")
    parser.add_argument("--swaps-per-s", type=float, default=10.0, help="moves a second (default 10)")
    parser.add_argument("--quiet-s", type=float, default=20.0, help="seconds without swaps, three times (default 20)")
    given = parser.parse_args()
    path = Path(tempfile.mkdtemp(prefix="weir-swaps-"))
    environ = {name: value for name, value in os.environ.items() if not re.fullmatch("WEIR_[A-Z]+_PORT", name)}
    with running(path / "data", environ=environ) as servers:
        found = measure(servers.endpoints.kafka, path, given.swaps, given.rate, given.swaps_per_s, given.quiet_s)
    for name, value in dataclasses.asdict(found).items():
        sys.stdout.write(f"{name:20} {value}\n")
    return 0 if found.is_clean else 1


def _trained(key: Ed25519PrivateKey, seed: int) -> tuple[Bundle, Manifest]:
    """A real model of the pinned features, small: how it scores is not what is tested here."""
    features, rows_count = pinned_feature_set(), 6_000
    rng = np.random.default_rng(seed)
    rows = rng.lognormal(3, 1, (rows_count, len(features.names))).astype(np.float32)
    fraud = rng.random(rows_count) < np.where(rows[:, seed] > 40, 0.3, 0.01)
    time_ms = np.arange(rows_count, dtype=np.int64) * HOUR_MS
    recorded = Recorded(
        rows=rows,
        event_time_ms=time_ms,
        label=fraud.astype(np.int8),
        observed_ms=time_ms + HOUR_MS,
        exact=np.ones(rows_count, np.bool_),
        weight=np.ones(rows_count, np.float32),
        held_out=np.zeros(rows_count, np.bool_),
    )
    identity = Identity(
        model_version=f"seed{seed}",
        feature_set=features.content_hash,
        feature_names=features.names,
        fallback_feature_names=tuple(features.names[i] for i in features.event_only),
        code_version="loadtests",
    )
    horizon = Horizon(label_delay_ms=HOUR_MS, validation_ms=1_500 * HOUR_MS, genuine_after_ms=None)
    bundle = build(recorded, identity, rows_count * HOUR_MS, horizon, Settings(), key)
    return bundle, parse(bundle.manifest)


def _golden(manifest: Manifest, bundle: Bundle) -> Golden:
    """The golden rows of ``manifest`` with what its calibration makes of them."""
    rows = manifest.golden.rows(len(manifest.feature_names))
    columns = list(manifest.fallback_feature_indices)
    span = manifest.iteration_range
    return Golden.of(
        rows,
        calibrated(manifest.calibration, margins(bundle.model, rows, span)),
        calibrated(manifest.fallback_calibration, margins(bundle.fallback, rows[:, columns], span)),
    )


def _percentiles(latencies_ms: list[int]) -> tuple[float, float]:
    if not latencies_ms:
        return float("nan"), float("nan")
    p50, p99 = np.percentile(latencies_ms, [50, 99]).tolist()
    return p50, p99


if __name__ == "__main__":
    sys.exit(main())
