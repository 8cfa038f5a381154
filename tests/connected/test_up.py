"""``weir up`` under everything that people and machines do to it: stopped, killed, started again, misused.

How long a stop takes is in ``test_up_in_time``.
"""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import psutil
import pytest
from weir_process import NOBODY_LOOKS, Up, processes_of, summary_of, weir

from services.cli.__main__ import main

pytestmark = [pytest.mark.connected, pytest.mark.faults, pytest.mark.timeout(600)]

WORLD = ("--days", "2", "--history-days", "2", *NOBODY_LOOKS)
# However fast or slow the machine is, events are left for the next start.
PACED = ("--days", "2", "--history-days", "0", "--speed", "200/s", *NOBODY_LOOKS)


def process_of(data: Path, name: str) -> psutil.Process:
    """The supervised process called ``name``."""
    rows = json.loads((data / "pids.json").read_text())
    return psutil.Process(next(row["pid"] for row in rows if row["name"] == name))


def test_stopped_killed_and_started_again_nothing_is_lost_or_repeated(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Up(data, *PACED) as first:
        first.wait_ready()
        first.wait_for(r"decided [1-9]")
        process_of(data, "scoring-0").kill()
        first.wait_for(r"scoring-0: died \(SIGKILL\), restart in 0\.2 s")
        first.wait_for(r"scoring-0: healthy after")
        first.wait_for(r"(?s)healthy after.*decided [1-9]")
        status, _ = first.interrupt(signal.SIGTERM, group=False)
        assert status == 0, first.output
        assert "stopping" in first.output
        assert "rdkafka" not in first.output
    assert processes_of(data) == []
    assert not (data / "endpoints.json").exists()
    stopped = summary_of(data)  # of a stop that a busy machine left no time to settle, nothing is known
    assert {stopped["missing"], stopped["duplicates"]} <= {0, None}, first.output
    decided = max(int(count.replace(",", "")) for count in re.findall(r"decided ([\d,]+)", first.output))
    keys = (data / "keys" / "signing.pem").read_bytes()

    with Up(data, *PACED) as second:
        second.wait_ready()
        second.wait_for(r"decided [1-9]")
        in_use = weir("up", "--data-dir", data)
        assert in_use.returncode == 1
        assert in_use.stderr == (
            f"weir: data directory {data} is in use by process {second.process.pid}: stop it, or name another "
            "directory with --data-dir\n"
        )
        second.process.kill()
        second.process.wait()
    with Up(data, *WORLD) as third:  # what the kernel did not end, this start does
        third.wait_ready()
        assert len([word for word in processes_of(data) if "kafka.Kafka" in word]) == 1
        third.wait_for("first decision")
        process_of(data, "kafka").kill()
        third.wait_for(r"kafka: died \(SIGKILL\)")
        assert third.end(240) == 0, third.output
        assert "input sent" in third.output
    assert processes_of(data) == []
    whole = summary_of(data)
    assert (whole["missing"], whole["duplicates"], whole["undecided_at_stop"]) == (0, 0, 0)
    assert whole["accepted"] == whole["events_in"] == whole["decisions"] > decided > 0
    assert (data / "keys" / "signing.pem").read_bytes() == keys


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--input", "nowhere.parquet"], "INPUT=nowhere.parquet: no such file"),
        (["--input", "payments.xlsx"], "unknown extension .xlsx; must be .parquet, .jsonl, .csv"),
        (["--speed", "fast"], "fast"),
        (["--for", "-5"], "-5"),
        (["--label-delay", "soon"], "soon"),
        (["--instances", "0"], "--instances=0: must be from 1 to 16"),
        (["--partitions", "100000"], "partitions=100000"),
        (["--dirty", "2"], "--dirty=2.0: must be between 0 and 0.5"),
        (["--no-input", "--input", "a.csv"], "choose one"),
        (["--reviewed", "-5"], "--reviewed=-5"),
        (["--scenario", "flood"], "SCENARIO=flood: must be drift"),
        (["--scenario", "drift", "--seeds", "1,x"], "SEEDS=1,x: must be whole numbers"),
        (["--scenario", "drift", "--seeds", "2,2"], "SEEDS=2,2: must be different"),
        (["--scenario", "drift", "--input", "a.csv"], "INPUT=a.csv: a scenario brings its own input"),
    ],
)
def test_bad_values_are_one_line_and_start_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["up", "--data-dir", str(tmp_path / "data"), *arguments]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("weir: ")
    assert said in told.err
    assert told.err.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_an_unknown_flag_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["up", "--data-dir", str(tmp_path / "data"), "--fast"])
    assert ended.value.code == 2
    assert "--fast" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("format", "weir-data 99\n", "says 'weir-data 99', this Weir reads"),
        ("holiday.jpg", "x", "is no Weir data directory"),
    ],
)
def test_a_directory_that_is_not_ours_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    assert main(["up", "--data-dir", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert {file.name for file in tmp_path.iterdir()} <= {name, "lock"}


def test_commands_say_that_endpoints_are_corrupt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "endpoints.json").write_text('{"kafka": ')
    assert main(["status", "--data-dir", str(tmp_path)]) == 1
    assert "endpoints.json is corrupt" in capsys.readouterr().err
