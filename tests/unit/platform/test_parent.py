"""Whoever stops `make run`, and however: the mesh drains."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.platform.parent import Parent

MESH = """
import signal, sys, time
from services.platform.parent import Parent

def drain(*_):
    print("drained", flush=True)
    sys.exit(0)

signal.signal(signal.SIGINT, drain)
signal.signal(signal.SIGTERM, drain)
parent = Parent()
print("up", flush=True)
while not parent.wants_stop():
    time.sleep(0.02)
drain()
"""

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("number", "whole_group"),
    [
        (signal.SIGINT, True),  # Ctrl-C in a terminal
        (signal.SIGTERM, False),  # make passes it on
        pytest.param(signal.SIGINT, False, marks=linux_only),  # make only waits
        pytest.param(signal.SIGKILL, False, marks=linux_only),
    ],
)
def test_a_signal_to_make_stops_what_it_runs(tmp_path: Path, number: signal.Signals, whole_group: bool) -> None:
    (tmp_path / "mesh.py").write_text(MESH)
    (tmp_path / "Makefile").write_text(f"run:\n\t@exec {sys.executable} mesh.py\n")
    with subprocess.Popen(
        ["make", "run"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite run in the background ignores it
    ) as make:
        assert make.stdout is not None
        assert make.stdout.readline() == "up\n"
        (os.killpg if whole_group else os.kill)(make.pid, number)
        try:
            assert make.communicate(timeout=10)[0] == "drained\n"
        finally:
            if make.poll() is None:
                os.killpg(make.pid, signal.SIGKILL)


def test_without_make_no_parent_is_watched() -> None:
    assert not Parent({}).wants_stop()
