"""The main job as a person runs it: a file in, decisions and a summary out."""

from __future__ import annotations

import json
import random
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from payments_file import Fates, Payment, payments, with_truth, write_jsonl, write_parquet
from weir_process import NOBODY_LOOKS, Up, processes_of, summary_of, weir

from services.mesh.codec import Codec
from services.mesh.headers import find
from services.mesh.topics import DEAD_LETTERS, DECISIONS
from services.platform.scan import committed_records

pytestmark = [pytest.mark.connected, pytest.mark.timeout(600)]

KEYS = {
    "events_in", "accepted", "duplicate_events_in", "conflicts", "dead_letters", "decisions", "missing", "duplicates",
    "undecided_at_stop", "rate_per_s", "latency_ms", "outcomes_in", "labels", "models",
}  # fmt: skip
COUNT, DAYS = 3_000, 3


def test_a_parquet_file_is_decided_once_and_summed_up(tmp_path: Path) -> None:
    rows = with_truth(payments(COUNT, DAYS))
    file, data = write_parquet(tmp_path / "payments.parquet", rows), tmp_path / "data"
    done = weir("up", "--input", file, "--speed", "max", "--label-delay", "1d", "--data-dir", data)
    assert done.returncode == 0, done.stdout + done.stderr
    assert processes_of(data) == []
    assert not (data / "endpoints.json").exists()

    summary = summary_of(data)
    assert summary.keys() >= KEYS
    counts = {"events_in": COUNT, "accepted": COUNT, "decisions": COUNT, "missing": 0, "duplicates": 0}
    counts |= {"duplicate_events_in": 0, "conflicts": 0, "dead_letters": 0, "undecided_at_stop": 0}
    assert {name: summary[name] for name in counts} == counts
    assert summary["rate_per_s"] > 0
    latency = summary["latency_ms"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["p999"]
    assert [model["version"] for model in summary["models"]] == ["bootstrap"]
    assert summary["models"][0]["from"] >= rows[0]["event_time_ms"]
    # Outcomes are due a day of event time after their payments; the last day's come after the end of the file.
    told = summary["outcomes_in"]
    assert 0.6 * COUNT < told < 0.7 * COUNT
    assert summary["labels"] == told
    assert summary["outcomes"] == {
        "accepted": told, "joined": told, "pending": 0, "orphans": {}, "lost": 0, "doubled": 0, "matured": 0,
    }  # fmt: skip

    assert "missing 0, duplicates 0, undecided at stop 0" in done.stdout
    assert f"sent {COUNT:,} of {COUNT:,} (100%)" in done.stdout or "input sent" in done.stdout
    assert "first decision" in done.stdout
    assert "rdkafka" not in done.stdout + done.stderr


def dirty_file(file: Path) -> Fates:
    """1% of lines corrupted in every way, 1% of ids used again right away with another body, each fate booked."""
    fates = Fates()
    chance = random.Random(3)
    corruptions = list(CORRUPTIONS)
    for number, row in enumerate(payments(COUNT, DAYS)):
        fates.good(row)
        if number % 100 == 50:
            code = corruptions[number // 100 % len(corruptions)]
            fates.bad(CORRUPTIONS[code](row), code.split(":")[0])
        if number % 100 == 99:
            fates.good({**row, "amount_minor": chance.randrange(60_000, 70_000)})
    file.write_bytes(b"\n".join(fates.lines) + b"\n")
    return fates


def changed(row: Payment, **fields: object) -> bytes:
    return json.dumps({**row, "event_id": f"x{row['event_id']}", **fields}).encode()


CORRUPTIONS = {
    "malformed_json:cut": lambda row: json.dumps(row).encode()[:40],
    "malformed_json:bytes": lambda row: b'{"event_id": "\xff\xfe"}',
    "malformed_json:twice": lambda row: changed(row)[:-1] + b', "amount_minor": 1}',
    "malformed_avro": lambda row: b"\x00\x00\x00",
    "unknown_schema": lambda row: b"\x00\x00\x00\x03\xe7garbage",
    "missing_field": lambda row: json.dumps({k: v for k, v in row.items() if k != "terminal_id"}).encode(),
    "unknown_field": lambda row: changed(row, amuont_minor=5),
    "wrong_type": lambda row: changed(row, amount_minor="12.50"),
    "out_of_range": lambda row: changed(row, amount_minor=-1),
    "too_large": lambda row: changed(row, channel="x" * 70_000),
    "clock_ahead": lambda row: changed(row, event_time_ms=int(str(row["event_time_ms"])) * 10),
    "clock_jump": lambda row: changed(row, event_time_ms=int(str(row["event_time_ms"])) + 30 * 86_400_000),
    "late": lambda row: changed(row, event_time_ms=int(str(row["event_time_ms"])) - 30 * 86_400_000),
}


def dead_letters(kafka: str) -> Counter[tuple[bytes, str]]:
    letters = committed_records(kafka, DEAD_LETTERS, None, None)
    return Counter((m.value(), (find(m.headers(), "error_code") or b"").decode()) for m in letters)


def decided(kafka: str) -> Counter[tuple[str, str]]:
    codec = Codec("decision.v1.avsc")
    decisions: list[dict[str, Any]] = [codec.decode(m.value()) for m in committed_records(kafka, DECISIONS, None, None)]
    return Counter((decision["customer_id"], decision["event_id"]) for decision in decisions)


def test_a_dirty_file_sent_twice_leaves_one_decision_an_id_and_every_reject_with_its_code(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "dirty.jsonl"
    fates = dirty_file(file)
    done = weir(
        "up",
        "--input",
        file,
        "--speed",
        "max",
        "--data-dir",
        data,
        "--without",
        "gateway,console,lookup,drift,retraining,webhooks",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first = summary_of(data)
    assert (first["missing"], first["duplicates"], first["undecided_at_stop"]) == (0, 0, 0)
    assert (first["events_in"], first["accepted"]) == (len(fates.lines), COUNT)
    assert (first["conflicts"], first["dead_letters"]) == (COUNT // 100, fates.rejects.total())

    with Up(data, "--no-input", "--without", "gateway,console,lookup,drift,retraining,webhooks") as mesh:
        kafka = mesh.wait_ready()["kafka"]
        assert dead_letters(kafka) == fates.rejects
        once_more = file.rename(tmp_path / "again.jsonl")
        sent = weir("send", once_more, "--data-dir", data, "--json")
        assert sent.returncode == 0, sent.stderr
        assert json.loads(sent.stdout)["acknowledged"] == len(fates.lines)
        mesh.wait_idle()
        status = json.loads(weir("status", "--json", "--data-dir", data).stdout)
        assert status["ready"]
        assert status["stages"][0]["stage"] == "ingestion"
        repeats = fates.send_again()
        assert dead_letters(kafka) == fates.rejects
        assert decided(kafka) == Counter(fates.accepted)
        second = mesh.verified()
        assert mesh.interrupt(signal.SIGTERM, group=False)[0] == 0, mesh.output
    assert (second["missing"], second["duplicates"], second["strangers"]) == (0, 0, 0)
    assert (second["undecided"], second["unjudged"]) == (0, 0)
    assert (second["events_in"], second["accepted"], second["decisions"]) == (2 * len(fates.lines), COUNT, COUNT)
    assert second["dead_letters"] == second["raw_rejects"] == fates.rejects.total()
    assert second["events_in"] - second["accepted"] - second["raw_rejects"] == repeats
    assert repeats > 10  # the last hour of event time; what is older is late by then


def test_a_file_that_cannot_be_sent_to_its_end_is_decided_as_far_as_it_was_and_fails(tmp_path: Path) -> None:
    rows = payments(10_000, DAYS)
    file = write_jsonl(tmp_path / "unsorted.jsonl", [*rows[:9_000], *rows[4_000:6_000]])
    failed = weir("up", "--input", file, "--data-dir", tmp_path / "data", *NOBODY_LOOKS)
    assert failed.returncode == 1
    assert re.search(r"simulator failed: .*unsorted\.jsonl:9001: not sorted by event_time_ms", failed.stdout)
    summary = summary_of(tmp_path / "data")
    assert 1_000 < summary["accepted"] == summary["decisions"] <= 9_000
    assert (summary["missing"], summary["duplicates"], summary["undecided_at_stop"]) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_input_needs_a_column_of_time(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"payments.{kind}"
    rows = [{k: v for k, v in row.items() if k != "event_time_ms"} for row in payments(10, 1)]
    write_jsonl(file, rows) if kind == "jsonl" else file.write_text(",".join(rows[0]) + "\n1,2,3,4\n")
    refused = weir("up", "--input", file, "--data-dir", tmp_path / "data")
    assert refused.returncode == 1
    assert refused.stderr.startswith("weir: ")
    assert "event_time_ms" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()
