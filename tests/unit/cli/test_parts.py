"""What the commands work out without any mesh."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.cli.__main__ import main
from services.cli.entity_features import parse_time_ms
from services.cli.shared import plain, shown_time
from services.mesh.adapters.dead_letter_log import original_headers
from services.mesh.errors import Fatal, Poison, RejectCode
from services.mesh.hops import CAUSE_HEADERS, cause_of
from services.mesh.ports import Header, InRecord
from services.mesh.stage import dead_letter


def letter(*sent: Header) -> InRecord:
    """A record with the headers ``sent``, as ingestion puts it into dead letters."""
    came = InRecord("events.raw.v1", 3, 41, 0, b"c1", b"bytes", sent)
    emit = dead_letter(came, 0, "ingestion", Poison(RejectCode.LATE, "too late", "event_time_ms"))
    return InRecord(emit.topic, 3, 0, 0, emit.key, emit.value, emit.headers)


def test_a_requeued_record_has_its_senders_headers_and_no_others() -> None:
    own: list[Header] = [("traceparent", b"00-1"), ("stage", b"the sender's own"), ("x", None)]
    record = letter(("weir", b"ours"), *own)
    assert original_headers(list(record.headers)) == own


def test_the_cause_is_ours_even_if_the_sender_used_its_names() -> None:
    cause = cause_of(letter(("error_code", b"forged"), ("origin_topic", b"forged")))
    assert cause == {
        "error_code": "late",
        "error_field": "event_time_ms",
        "error_message": "too late",
        "stage": "ingestion",
        "origin_topic": "events.raw.v1",
        "origin_partition": "3",
        "origin_offset": "41",
    }
    assert tuple(cause) == CAUSE_HEADERS


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("1522540800123", 1_522_540_800_123),
        ("2018-04-01", 1_522_540_800_000),
        ("2018-04-01 00:00:00.5", 1_522_540_800_500),
        ("2018-04-01T02:00+02:00", 1_522_540_800_000),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text: str, time_ms: int) -> None:
    assert parse_time_ms(text) == time_ms


@pytest.mark.parametrize("text", ["", "soon", "-1", "2018-13-01", "１５"])
def test_what_is_no_time_is_refused_with_its_value(text: str) -> None:
    with pytest.raises(Fatal, match="must be a UTC time such as") as refusal:
        parse_time_ms(text)
    assert repr(text) in str(refusal.value)


def test_times_are_shown_to_the_millisecond() -> None:
    assert shown_time(1_522_540_800_007) == "2018-04-01 00:00:00.007"


def test_counters_in_records_become_json() -> None:
    @dataclass
    class Inner:
        number: int = 1

    @dataclass
    class Outer:
        counts: Counter[str] = field(default_factory=lambda: Counter(a=2))
        inner: Inner | None = field(default_factory=Inner)

    assert json.loads(json.dumps(plain(Outer()))) == {"counts": {"a": 2}, "inner": {"number": 1}}


def test_feature_names_are_those_that_are_served(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "names", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["names"][0], found["names"][-1]) == ("amount", "terminal_known_labels_30d")
    assert set(found["abouts"]) == set(found["names"])
    assert main(["features", "names"]) == 0
    assert found["content_hash"] in capsys.readouterr().out


def test_a_policy_that_is_no_text_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "policy.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    assert main(["policy", "check", str(file)]) == 1
    assert "is not text in UTF-8" in capsys.readouterr().err
