"""Weeks of payments before the whole monitor: chance stays within its budget, and what moves is found and named."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from loadtests.drift_power import raised_day
from loadtests.drift_world import (
    BUDGET,
    MODEL,
    START_DAY,
    Shift,
    ShiftKind,
    World,
    known_model,
    profiles_of,
    release_of,
    run,
    settings,
)
from services.drift.monitor import SLACK_MS, Monitor
from services.drift.report import page_of, report_of
from services.mesh.reference import DAY_MS

SHIFT_DAY = START_DAY + 21


@cache
def shifted(kind: ShiftKind, size: float) -> tuple[Monitor, list[Any]]:
    return run(11, 35, 700, Shift(kind, size, SHIFT_DAY))


def raised(alerts: list[Any]) -> list[Any]:
    return [alert for alert in alerts if alert["status"] == "raised"]


def test_weeks_in_which_nothing_moves_stay_within_the_tolerated_alarms() -> None:
    weeks, alarms = 0, 0
    for seed in range(3):
        monitor, alerts = run(50 + seed, 56, 500)
        weeks += len(monitor.checks) / 7
        alarms += len(raised(alerts))
    assert weeks > 23
    assert alarms <= weeks * 1.0


@pytest.mark.parametrize(
    ("kind", "size", "alert", "subject", "within_days"),
    [
        ("feature", 1.0, "feature_shift", "noise_a", 1),
        ("units", 100.0, "feature_shift", "amount", 1),
        ("units", 100.0, "data_quality", "amount_minor", 1),
        ("nulls", 0.3, "feature_shift", "customer_count_7d", 1),
        ("nulls", 0.3, "data_quality", "country null", 1),
        ("category", 0.03, "data_quality", "new value of country", 1),
        ("score", 1.0, "score_shift", "score", 1),
        ("concept", 0.4, "precision", f"precision at {BUDGET} a day (reviewed)", 5),
        ("concept", 0.4, "estimate_gap", "promised precision (reviewed)", 5),
        ("volume", 0.4, "data_quality", "volume", 1),
    ],
)
def test_a_shift_is_found_and_named(kind: ShiftKind, size: float, alert: str, subject: str, within_days: int) -> None:
    _, alerts = shifted(kind, size)
    found = [a for a in raised(alerts) if a["kind"] == alert and a["subject"] == subject]
    assert found, [a["text"] for a in raised(alerts)]
    days = [raised_day(a) - SHIFT_DAY + 1 for a in found]
    assert 1 <= min(d for d in days if d >= 1) <= within_days
    assert all(a["is_harm"] == (a["kind"] in ("precision", "estimate_gap", "calibration")) for a in alerts)


def test_a_change_of_concept_moves_no_input() -> None:
    monitor, alerts = shifted("concept", 0.4)
    moved = [a for a in raised(alerts) if raised_day(a) >= SHIFT_DAY and a["kind"] in ("feature_shift", "data_quality")]
    assert not moved
    assert all(alert["model_version"] == MODEL for alert in raised(alerts) if alert["is_harm"])
    assert monitor.ledger.open


def test_silence_and_age_are_alerts() -> None:
    world = World(4, 300)
    known, monitor = known_model(world), Monitor(settings(retrain_days_max=14, silence_hours_max=48))
    monitor.take_release(release_of(known))
    alerts: list[Any] = []
    offset = 0
    for number in range(START_DAY, START_DAY + 24):
        day = world.day(number)
        for profile in profiles_of(day, known, offset):
            if profile["subject"] != "decisions" or number < START_DAY + 10:
                monitor.take_profile(profile)
        offset += len(day.rows)
        alerts += monitor.due()
    subjects = {alert["subject"] for alert in raised(alerts) if alert["kind"] == "absence"}
    assert subjects == {"labels", "new model", "decisions profiles"}


def test_no_event_at_all_is_an_alert_of_the_wall_clock() -> None:
    world = World(5, 100)
    known, monitor = known_model(world), Monitor(settings())
    assert monitor.silence(1e6) == [], "nothing has ever come: nothing is missed"
    for profile in profiles_of(world.day(START_DAY), known, 0):
        monitor.take_profile(profile)
    assert monitor.silence(59) == []
    told = [monitor.silence(minutes) for minutes in (61, 75, 0, 0, 0)]
    assert [[(a["status"], a["subject"]) for a in alerts] for alerts in told] == [
        [("raised", "events")], [], [], [("cleared", "events")], [],
    ]  # fmt: skip


def test_a_day_is_checked_once_when_every_stage_has_passed_its_end() -> None:
    world = World(5, 100)
    known, monitor = known_model(world), Monitor(settings())
    offset = 0
    for number in range(START_DAY, START_DAY + 3):
        day = world.day(number)
        for profile in profiles_of(day, known, offset):
            monitor.take_profile(profile)
            monitor.due()
            assert all(check.day < (monitor.clock_ms - SLACK_MS) // DAY_MS for check in monitor.checks)
        offset += len(day.rows)
    assert [check.day for check in monitor.checks] == [START_DAY, START_DAY + 1]


def test_the_report_is_whole_and_its_page_needs_nothing_else() -> None:
    monitor, alerts = shifted("units", 100.0)
    document = report_of(monitor)
    assert document["days"][0]["day"] == "2024-10-04"
    assert document["alerts"] == alerts
    assert {finding["subject"] for finding in document["latest"]} >= {"amount", "score", "action", "volume", "labels"}
    last = document["days"][-10]
    assert last["estimated"]["precision"] == pytest.approx(last["realised"]["reviewed"]["precision"], abs=0.15)
    page = page_of(document)
    assert page.count("<svg") == 4
    assert "http" not in page.replace("http-equiv", "")
    assert "amount has moved since 2024-10-25" in page


def test_a_page_about_nothing_is_a_page() -> None:
    assert "nothing known yet" in page_of(report_of(Monitor(settings())))
