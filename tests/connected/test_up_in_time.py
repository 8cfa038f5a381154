"""``weir up`` stops within the 10 s that people are promised, and leaves nothing: from a terminal, and while it starts.

Held to the clock, so nothing else may run beside these tests.
"""

from __future__ import annotations

import os
import pty
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from payments_file import payments, write_jsonl
from weir_process import STOP_S_MAX, Up, processes_of

pytestmark = [pytest.mark.connected, pytest.mark.alone, pytest.mark.timeout(600)]


def stopped_in_time(up: Up, number: signal.Signals, *, group: bool) -> None:
    status, seconds = up.interrupt(number, group=group)
    assert status == 0, up.output
    assert seconds < STOP_S_MAX, up.output
    assert processes_of(up.data) == []
    assert not (up.data / "endpoints.json").exists()


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
        stopped_in_time(up, signal.SIGINT, group=True)
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
