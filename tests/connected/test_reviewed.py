"""Analysts in the whole mesh: they see decisions, tell what they found, and go on where they stopped."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from payments_file import DAY_MS, START_MS, payments, with_truth, write_parquet
from weir_process import NOBODY_LOOKS, Up, summary_of, weir

from services.mesh.codec import Codec
from services.mesh.topics import OUTCOMES
from services.platform.scan import committed_records
from services.platform.servers import running

pytestmark = [pytest.mark.connected, pytest.mark.timeout(600)]

COUNT, DAYS, REVIEWED = 1_200, 6, 5
MORNING_MS = 8 * 3_600_000


def evenings(data: Path) -> int:
    """How many evenings the analysts have noted down."""
    notebook = data / "simulator-analysts.json"
    return len(next(iter(json.loads(notebook.read_text()).values()))["chosen"]) if notebook.exists() else 0


def test_reviews_of_a_run_in_two_pieces(tmp_path: Path) -> None:
    rows = with_truth(payments(COUNT, DAYS), share=0.1)
    truth = {(row["customer_id"], row["event_id"]): row["is_fraud"] for row in rows}
    file, data = write_parquet(tmp_path / "payments.parquet", rows), tmp_path / "data"
    arguments = ["--input", str(file), "--label-delay", "3d", "--reviewed", str(REVIEWED), *NOBODY_LOOKS]
    with Up(data, *arguments, "--speed", "150/s") as up:
        end_s = time.monotonic() + 120
        while evenings(data) < 2:
            assert time.monotonic() < end_s, up.output
            time.sleep(0.1)
        assert up.interrupt(signal.SIGINT, group=False)[0] == 0
    assert evenings(data) < DAYS - 1
    done = weir("up", *arguments, "--speed", "max", "--data-dir", data)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = summary_of(data)
    assert (summary["decisions"], summary["missing"], summary["duplicates"]) == (COUNT, 0, 0)

    with running(data) as servers:
        codec, log = Codec(OUTCOMES.schemas[0]), committed_records(servers.endpoints.kafka, OUTCOMES, None, None)
        outcomes = [codec.decode(message.value()) for message in log]
    told = [outcome for outcome in outcomes if outcome["source"] == "analyst"]
    assert max(Counter((o["customer_id"], o["event_id"]) for o in told).values()) == 1
    assert {o["outcome_id"] for o in told} == {f"a-{o['customer_id']}-{o['event_id']}" for o in told}
    for outcome in told:
        assert (outcome["label"] == "fraud") == truth[outcome["customer_id"], outcome["event_id"]]
        assert (outcome["observed_time_ms"] - START_MS) % DAY_MS == MORNING_MS
    # Each evening so many customers, the last day's are told after the end.
    mornings = {(o["observed_time_ms"] - START_MS) // DAY_MS for o in told}
    assert mornings == set(range(1, DAYS))
