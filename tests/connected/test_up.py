"""``weir up`` under everything that people and machines do to it: stopped, killed, started again, misused."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
from payments_file import payments, write_jsonl
from weir_process import STOP_S_MAX, Up, processes_of, summary_of, weir

from services.cli.__main__ import main

pytestmark = [pytest.mark.connected, pytest.mark.faults, pytest.mark.alone, pytest.mark.timeout(600)]

WORLD = ("--days", "4", "--history-days", "4")
# However fast the machine is, events are left for the next start.
PACED = ("--days", "4", "--history-days", "0", "--speed", "400/s")


def process_of(data: Path, name: str) -> psutil.Process:
    """The supervised process called ``name``."""
    rows = json.loads((data / "pids.json").read_text())
    return psutil.Process(next(row["pid"] for row in rows if row["name"] == name))


def stopped_in_time(up: Up, number: signal.Signals, *, group: bool) -> None:
    status, seconds = up.interrupt(number, group=group)
    assert status == 0, up.output
    assert seconds < STOP_S_MAX, up.output
    assert processes_of(up.data) == []
    assert not (up.data / "endpoints.json").exists()


def test_stopped_killed_and_started_again_nothing_is_lost_or_repeated(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Up(data, *PACED) as first:
        first.wait_ready()
        first.wait_for(r"decided [1-9]")
        process_of(data, "scoring-0").kill()
        first.wait_for(r"scoring-0: died \(SIGKILL\), restart in 0\.2 s")
        first.wait_for(r"scoring-0: healthy after")
        first.wait_for(r"(?s)healthy after.*decided [1-9]")
        stopped_in_time(first, signal.SIGINT, group=True)
        assert "stopping" in first.output
        assert "rdkafka" not in first.output
    stopped = summary_of(data)
    assert (stopped["missing"], stopped["duplicates"]) == (0, 0), first.output
    assert stopped["accepted"] > 0
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
    assert whole["accepted"] == whole["events_in"] == whole["decisions"] > stopped["accepted"]
    assert (data / "keys" / "signing.pem").read_bytes() == keys


def test_on_a_terminal_it_draws_and_ctrl_c_stops_it(tmp_path: Path) -> None:
    """Input: a file that takes minutes at its pace, so that Ctrl-C comes in the middle."""
    file = write_jsonl(tmp_path / "payments.jsonl", payments(6_000, 3))
    ours, theirs = pty.openpty()
    os.set_inheritable(theirs, True)
    seen: list[bytes] = []
    reader = threading.Thread(target=_follow, args=(ours, seen), daemon=True)
    reader.start()
    with (
        os.fdopen(theirs, "w") as terminal,
        Up(tmp_path / "data", "--input", str(file), "--speed", "300/s", stdout=terminal) as up,
    ):
        end_s = time.monotonic() + 180
        while b"decided 1," not in b"".join(seen):
            assert up.process.poll() is None, b"".join(seen).decode()
            assert time.monotonic() < end_s, b"".join(seen).decode()
            time.sleep(0.1)
        stopped_in_time(up, signal.SIGTERM, group=False)
    reader.join(5)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(seen).decode())
    for stage in ("ingestion", "features-customer", "features-terminal", "scoring", "decisions"):
        assert re.search(rf"^{stage} +[\d,]+ +[\d,]+ +[\d,]+ ms +\d+", text, re.MULTILINE), text
    assert " of 6,000 (" in text
    assert "Traceback" not in text
    assert "missing 0, duplicates 0" in text


def _follow(terminal: int, seen: list[bytes]) -> None:
    while True:
        try:
            seen.append(os.read(terminal, 65_536))
        except OSError:  # nobody has it open any more
            os.close(terminal)
            return


def test_ctrl_c_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    with Up(tmp_path / "data") as up:
        up.wait_for("redis: healthy")
        status, seconds = up.interrupt(signal.SIGINT, group=True)
    assert (status, seconds < STOP_S_MAX) == (130, True), up.output
    assert processes_of(tmp_path / "data") == []


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
