"""The sender's report is its last whole line of this run."""

from __future__ import annotations

from pathlib import Path

from services.platform.sender_report import latest_report, phase_of


def test_latest_whole_report_of_this_run(tmp_path: Path) -> None:
    log = tmp_path / "simulator.log"
    assert latest_report(log, 0.0) == {}
    log.write_text('{"sent": 1, "wall_s": 10.0}\nsomething said\n{"sent": 2, "wall_s": 20.0}\n{"sent": 3, "wal')
    assert latest_report(log, 15.0) == {"sent": 2, "wall_s": 20.0}
    assert latest_report(log, 25.0) == {}  # an earlier run's


def test_phases_in_words() -> None:
    assert phase_of({}) == "no input yet"
    assert phase_of({"phase": "history", "waiting": ""}) == "sending past days"
    assert phase_of({"phase": "live", "waiting": "window"}) == "sending, waiting for decisions"
    assert phase_of({"phase": "live", "waiting": "pace"}) == "sending"
    assert phase_of({"done": True}) == "input sent"
