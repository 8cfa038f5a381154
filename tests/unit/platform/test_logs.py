"""Log files: capped, and asked for their last words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from services.platform import logs


def test_rotate_moves_a_full_log_away_and_leaves_a_short_one(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("12345")
    logs.rotate(log, bytes_max=6)
    assert log.read_text() == "12345"
    logs.rotate(log, bytes_max=5)
    assert not log.exists()
    assert (tmp_path / "a.log.1").read_text() == "12345"


def test_cap_empties_a_log_under_a_process_that_goes_on_appending(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    code = (
        "import sys\nfor line in sys.stdin: print('x' * 100, flush=True); sys.stderr.write('ok\\n'); sys.stderr.flush()"
    )
    with (
        log.open("ab") as output,
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=output, stderr=subprocess.PIPE, text=True
        ) as writer,
    ):
        assert writer.stdin is not None
        assert writer.stderr is not None
        for _ in range(2):
            writer.stdin.write("go\n")
            writer.stdin.flush()
            assert writer.stderr.readline() == "ok\n"
            logs.cap(log, bytes_max=100)
            assert log.read_bytes() == b""
    assert (tmp_path / "a.log.1").read_text() == "x" * 100 + "\n"


def test_last_words_are_the_last_line_that_says_anything(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("one\n ERROR two\nthree\n\tat org.some.Frame(Frame.java:7)\n\n  \n")
    assert logs.last_words(log) == "three"
    assert logs.last_words(log, marks=("ERROR",)) == "ERROR two"
    assert logs.last_words(log, marks=("FATAL",)) == "three"


def test_last_words_of_a_log_without_words(tmp_path: Path) -> None:
    assert logs.last_words(tmp_path / "none.log") == "it wrote no log"
    (tmp_path / "a.log").touch()
    assert logs.last_words(tmp_path / "a.log") == "its log is empty"
