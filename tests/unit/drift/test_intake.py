"""Records in: poison changes nothing but a counter, a record counts once, and a rebuilt state is the state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from loadtests.blank_record import blank_record
from loadtests.drift_world import (
    BUDGET,
    START_DAY,
    Shift,
    World,
    known_model,
    labels_of,
    profiles_of,
    release_of,
    settings,
)
from services.drift.alerts import check_day
from services.drift.intake import Intake, Record
from services.drift.monitor import Monitor
from services.drift.rebuild import rebuild
from services.drift.report import report_of
from services.mesh.adapters.memory import ManualClock
from services.mesh.codec import Codec
from services.mesh.ports import InRecord
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import LABELS, MODELS, PROFILES

PROFILE, LABEL, RELEASE = Codec(PROFILES.schemas[0]), Codec(LABELS.schemas[0]), Codec(MODELS.schemas[0])

BLANK_LABEL = blank_record(LABELS.schemas[0])


@pytest.fixture(scope="module")
def log() -> dict[tuple[str, int], list[InRecord]]:
    """Twelve days as their topics hold them; amounts change unit on the tenth."""
    held: dict[tuple[str, int], list[InRecord]] = {}
    clock = 0

    def append(topic: str, partition: int, value: bytes) -> None:
        nonlocal clock
        clock += 1
        records = held.setdefault((topic, partition), [])
        records.append(InRecord(topic, partition, 2 * len(records), clock, None, value, ()))  # markers lie between

    world = World(8, 350, Shift("units", 100.0, START_DAY + 9))
    known = known_model(world)
    append(MODELS.name, 0, RELEASE.encode(release_of(known)))
    offset = 0
    for number in range(START_DAY, START_DAY + 12):
        day = world.day(number)
        for place, profile in enumerate(profiles_of(day, known, offset)):
            append(PROFILES.name, place, PROFILE.encode(profile))
        for label in labels_of(day, number)[0]:
            append(LABELS.name, number % 2, LABEL.encode(BLANK_LABEL | label))
        offset += len(day.rows)
    return held


class Bench:
    def __init__(self) -> None:
        self.monitor = Monitor(settings())
        self.telemetry = StageTelemetry("drift", ManualClock())
        self.intake = Intake(self.monitor, self.telemetry)
        self.alerts: list[Any] = []

    def take(self, records: list[InRecord]) -> None:
        for record in records:
            self.intake.take(Record(record.topic, record.partition, record.offset, record.value))
            self.alerts += self.monitor.due()

    def count(self, name: str) -> float:
        found = [s for m in self.telemetry.metrics.registry.collect() for s in m.samples if s.name == name]
        return sum(sample.value for sample in found)


def in_order(log: dict[tuple[str, int], list[InRecord]]) -> list[InRecord]:
    return sorted((record for records in log.values() for record in records), key=lambda r: r.append_time_ms)


def test_records_that_come_again_change_nothing(log: dict[tuple[str, int], list[InRecord]]) -> None:
    once, again = Bench(), Bench()
    records = in_order(log)
    once.take(records)
    for start in range(0, len(records), 30):
        again.take(records[max(0, start - 15) : start + 30])  # what was not committed is handed out once more
    assert orjson.dumps(report_of(again.monitor)) == orjson.dumps(report_of(once.monitor))
    assert again.alerts == once.alerts
    assert {alert["subject"] for alert in once.alerts} >= {"amount", "amount_minor"}
    assert again.count("weir_repeats_total") > 0
    assert once.count("weir_repeats_total") == 0


@pytest.mark.parametrize("value", [None, b"", b"\xff" * 60, PROFILE.schema.header, LABEL.schema.header + b"\x80" * 9])
@pytest.mark.parametrize("topic", [PROFILES.name, LABELS.name, MODELS.name])
def test_poison_is_counted_and_skipped(topic: str, value: bytes | None) -> None:
    bench = Bench()
    bench.intake.take(Record(topic, 1, 7, value))
    assert bench.count("weir_rejects_total") == 1
    assert bench.intake.taken == {(topic, 1): 7}
    assert bench.monitor.clock_ms == 0


def test_what_was_found_and_never_published_is_published_after_a_restart(
    log: dict[tuple[str, int], list[InRecord]],
) -> None:
    whole, after, late = Bench(), Bench(), Bench()
    whole.take(in_order(log))
    last = max(check_day(alert) for alert in whole.alerts)
    published = [a for a in whole.alerts if check_day(a) < last or a["subject"] == "amount"]
    assert 0 < len(published) < len(whole.alerts)
    ends = {where: records[-1].offset + 1 for where, records in log.items()}
    _, fresh = rebuild(after.intake, lambda topic: Past(log, topic), ends, published, lambda: None)
    assert sorted(a["alert_id"] for a in [*published, *fresh]) == sorted(a["alert_id"] for a in whole.alerts)
    assert {a["alert_id"] for a in after.monitor.ledger.open} == {a["alert_id"] for a in whole.monitor.ledger.open}
    later = [{**published[-1], "alert_id": "feature_shift:amount:all:2030-01-01"}]
    _, fresh = rebuild(late.intake, lambda topic: Past(log, topic), ends, later, lambda: None)
    assert fresh == [], "what a replay makes of days that are over is no news"
    assert late.monitor.ledger.open == later


def test_a_model_without_a_readable_manifest_is_followed_and_not_compared(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    release = release_of(known_model(World(1, 100))) | {"manifest": "{}"}
    bench.intake.take(Record(MODELS.name, 0, 0, RELEASE.encode(release)))
    assert bench.monitor.models.champion == "m-1"
    assert bench.monitor.models.get("m-1") is None
    assert "no manifest to compare with" in caplog.text


class Past:
    def __init__(self, log: dict[tuple[str, int], list[InRecord]], topic: str) -> None:
        self._log, self._topic = log, topic

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        records = self._log.get((self._topic, partition), [])
        for at in range(0, len(records), 7):
            yield [record for record in records[at : at + 7] if start <= record.offset < end]


@pytest.mark.parametrize("cut", [0.3, 0.9, 1.0])
def test_a_state_rebuilt_from_the_log_goes_on_as_if_nothing_had_happened(
    log: dict[tuple[str, int], list[InRecord]], cut: float
) -> None:
    records = in_order(log)
    whole, before, after = Bench(), Bench(), Bench()
    whole.take(records)
    before.take(records[: int(cut * len(records))])
    positions = {where: before.intake.taken.get(where, -1) + 1 for where in [*log, (LABELS.name, 5)]}
    count, fresh = rebuild(after.intake, lambda topic: Past(log, topic), positions, before.alerts, lambda: None)
    assert (count, fresh) == (int(cut * len(records)), [])
    assert after.monitor.ledger.history == before.alerts
    assert after.intake.taken[LABELS.name, 5] == -1
    after.take(records[int(cut * len(records)) - 5 :])
    assert before.alerts + after.alerts == whole.alerts
    assert orjson.dumps(report_of(after.monitor)["days"]) == orjson.dumps(report_of(whole.monitor)["days"])
    assert report_of(after.monitor)["alerts_open"] == report_of(whole.monitor)["alerts_open"]
    assert after.monitor.labels.budget == BUDGET
