"""``weir drift`` reads what drift wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.drift_world import START_DAY, Shift, run
from services.cli.__main__ import main
from services.drift.report import write_report


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    (path / "drift").mkdir()
    monitor, _ = run(6, 12, 400, Shift("units", 100.0, START_DAY + 9))
    write_report(monitor, path / "drift")
    return path


def test_status_names_what_holds(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drift", "status", "--data-dir", str(data)]) == 0
    shown = capsys.readouterr().out
    assert "change  amount has moved since 2024-10-13 in all payments: above all of training holds" in shown
    assert " 0 not" in shown
    assert main(["drift", "status", "--json", "--data-dir", str(data)]) == 0
    assert json.loads(capsys.readouterr().out)["alerts_open"][0]["kind"] == "data_quality"


def test_report_shows_days_and_where_the_page_is(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drift", "report", "--data-dir", str(data)]) == 0
    shown = capsys.readouterr().out
    assert "2024-10-13" in shown
    assert str(data / "drift" / "drift.html") in shown
    assert (data / "drift" / "drift.html").exists()


def test_without_a_report_the_command_says_where_it_looked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drift", "status", "--data-dir", str(tmp_path)]) == 1
    assert "drift.json: no report yet" in capsys.readouterr().err
