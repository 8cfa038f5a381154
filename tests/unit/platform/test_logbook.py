"""What libraries write to standard error from C goes to the log, not over the live view."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from services.platform.logbook import Logbook


def test_standard_error_is_led_to_the_log_and_given_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    book = Logbook()
    book.note("kafka", "started as process 7")  # before the log has a place
    book.open(tmp_path / "weir.log")
    os.write(2, b"%3|GETPID| from a thread of C\n")
    book.note("kafka", "healthy")
    book.close()
    os.write(2, b"ours again\n")
    assert capfd.readouterr().err == "ours again\n"
    lines = (tmp_path / "weir.log").read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d kafka: started as process 7", lines[0])
    assert lines[1] == "%3|GETPID| from a thread of C"
    assert lines[2].endswith("kafka: healthy")


def test_closing_what_was_never_opened_is_nothing() -> None:
    Logbook().close()
