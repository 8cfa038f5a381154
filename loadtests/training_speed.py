"""How fast a training is: a million labels in the log to a signed bundle, against a bare ``xgboost.train``.

    python -m loadtests.training_speed [--rows 1000000] [--threads 2]

Fills ``labels.v1`` of a broker of its own, then runs the trainer as the controller does, as a process of its own: its
start, reading and decoding the log, the snapshot written and read back, four models (validated and final, each with its
fallback), calibration, reference, signature. Bare is one ``xgboost.train`` on the same matrix, in memory, with the same
parameters: the part that nobody can leave out. Processor time stands beside each: where neighbours take the machine,
elapsed time grows and processor time does not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import xgboost
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from loadtests.blank_record import blank_record
from services.mesh.codec import Codec
from services.mesh.feature_set import pinned_feature_set
from services.mesh.signing import generate_signing_key
from services.mesh.topics import DAY_MS, LABELS, MODELS
from services.platform.servers import running
from services.retraining import snapshot
from services.retraining.handover import LINEAGE, SNAPSHOT
from services.retraining.train import Settings

START_MS = 1_600_000_000_000 // DAY_MS * DAY_MS
DAYS = 60
_FRAUD_SHARE = 0.01


def main() -> int:
    """Measure, print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    path = Path(tempfile.mkdtemp(prefix="weir-training-"))
    environ = {name: value for name, value in os.environ.items() if not re.fullmatch("WEIR_[A-Z]+_PORT", name)}
    with running(path / "data", environ=environ) as servers:
        kafka = servers.endpoints.kafka
        admin = AdminClient({"bootstrap.servers": kafka})
        for done in admin.create_topics(
            [NewTopic(t.name, t.partition_count(8), 1, config=t.config()) for t in (LABELS, MODELS)]
        ).values():
            done.result(10)
        filled_s = _fill(kafka, given.rows)
        generate_signing_key(path / "signing.pem")
        argv = [sys.executable, "-m", "services.retraining.trainer", "--kafka", kafka, "--threads", str(given.threads)]
        argv += ["--signing-key", str(path / "signing.pem"), "--directory", str(path / "training")]
        argv += ["--learn", f"{DAYS}d"]  # all of them: otherwise only the last weeks' rows would be learned from
        began_s, began_cpu_s = time.monotonic(), _ended_children_cpu_s()
        ended = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
        whole_s, whole_cpu_s = time.monotonic() - began_s, _ended_children_cpu_s() - began_cpu_s
    folder = Path(json.loads(ended.stdout.splitlines()[-1])["folder"])
    about = json.loads((folder / LINEAGE).read_text())
    bare_s, bare_cpu_s = _bare_s(folder, about["snapshot_sha256"], given.threads)
    lines = [
        f"{given.rows:,} labels put into the log in {filled_s:.1f} s",
        _line("log to signed bundle", given.rows, whole_s, whole_cpu_s),
        _line("bare xgboost.train", given.rows, bare_s, bare_cpu_s),
        f"the whole over bare         {whole_s / bare_s:6.1f}     {whole_cpu_s / bare_cpu_s:6.1f} in processor time",
        f"learned from {about['rows']:,} rows, {about['frauds']:,} of them fraud; "
        f"average precision {about['measures']['average_precision']:.3f}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _line(name: str, rows: int, elapsed_s: float, cpu_s: float) -> str:
    return f"{name:<26}  {elapsed_s:6.1f} s   {cpu_s:6.1f} s of processor time   {rows / elapsed_s:10,.0f} rows/s"


def _ended_children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _fill(kafka: str, count: int) -> float:
    """Labelled decisions of ``DAYS`` days, observed a week later."""
    began_s = time.monotonic()
    features, codec = pinned_feature_set(), Codec(LABELS.schemas[0])
    blank = blank_record(LABELS.schemas[0])
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 20, "queue.buffering.max.messages": 500_000})
    rng = np.random.default_rng(1)
    step_ms = DAYS * DAY_MS // count
    for start in range(0, count, 50_000):
        rows = _vectors(rng, features.names, min(50_000, count - start))
        risk = _FRAUD_SHARE * (rows[:, 0] > 60) * 8
        fraud = rng.random(len(rows)) < np.minimum(risk, 0.9) + 0.002
        for n in range(len(rows)):
            number = start + n
            at_ms = START_MS + number * step_ms
            label = blank | {
                "event_id": f"tx-{number}",
                "customer_id": f"c{number % 50_000}",
                "terminal_id": f"t{number % 10_000}",
                "event_time_ms": at_ms,
                "amount_minor": number % 20_000,
                "feature_set": features.content_hash,
                "vector": rows[n].tobytes(),
                "split_bucket": number % 50_000 % 10_000,
                "propensity": 1.0,
                "label": "fraud" if fraud[n] else "genuine",
                "label_version": 1,
                "observed_time_ms": at_ms + 7 * DAY_MS,
                "label_age_ms": 7 * DAY_MS,
            }
            producer.produce(LABELS.name, codec.encode(label), str(number % 50_000).encode())
        producer.poll(0)
        producer.flush(60)
    return time.monotonic() - began_s


def _vectors(rng: np.random.Generator, names: tuple[str, ...], rows: int) -> np.ndarray:
    """Columns as the real ones are: flags, counts, shares of counts, and amounts."""
    columns = []
    for name in names:
        if name.startswith("is_"):
            columns.append(rng.random(rows) < 0.3)
        elif "count" in name or "labels" in name:
            columns.append(rng.poisson(rng.gamma(2.0, 8.0, rows)))
        elif "rate" in name:
            columns.append(rng.binomial(40, rng.beta(0.1, 8.0, rows)) / 40)
        else:
            columns.append(rng.lognormal(3, 1, rows))
    return np.column_stack(columns).astype("<f4")


def _bare_s(folder: Path, sha256: str, threads: int) -> tuple[float, float]:
    """One model on the same rows, parameters and threads: elapsed and processor time."""
    recorded = snapshot.read(folder / SNAPSHOT, sha256, pinned_feature_set()).recorded
    settings = Settings(nthread=threads)
    parameters = settings.parameters() | {"nthread": threads}
    rounds = int(parameters.pop("num_boost_round"))
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    matrix = xgboost.QuantileDMatrix(recorded.rows, label=recorded.label, max_bin=settings.bins_max, nthread=threads)
    xgboost.train(parameters, matrix, num_boost_round=rounds)
    return time.monotonic() - began_s, time.process_time() - began_cpu_s


if __name__ == "__main__":
    sys.exit(main())
