"""`make test` finds a browser, or installs one, or says in one line what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "browser.sh"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A PATH with nothing but what the script itself needs, for somebody who is not root."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for tool in ("sh", "printf"):
        (directory / tool).symlink_to(str(shutil.which(tool)))
    program(directory / "id", "echo 1000")
    return directory


def program(file: Path, line: str) -> Path:
    file.write_text(f"#!{shutil.which('sh')}\n{line}\n")
    file.chmod(0o755)
    return file


def run(path: Path, python: Path, **environment: str) -> tuple[int, str, str]:
    stamp = path.parent / "stamp"
    done = subprocess.run(
        ["sh", str(SCRIPT), str(stamp), str(python)],
        env={"PATH": str(path), **environment},
        capture_output=True,
        text=True,
        timeout=30,
        executable=shutil.which("sh"),
    )
    return done.returncode, stamp.read_text().strip() if stamp.exists() else "", done.stderr


def test_what_is_named_is_taken_and_a_wrong_name_is_one_line(path: Path) -> None:
    mine = program(path.parent / "mine", "echo Chromium 1")
    assert run(path, mine, WEIR_BROWSER=str(mine)) == (0, str(mine), "")
    status, _, said = run(path, mine, WEIR_BROWSER="/nowhere/chrome")
    assert (status, said.count("\n")) == (1, 1)
    assert "WEIR_BROWSER=/nowhere/chrome" in said


def test_one_on_the_path_is_found_if_it_runs(path: Path) -> None:
    python = program(path.parent / "python", "exit 1")
    program(path / "chromium", "exit 1")
    works = program(path / "google-chrome", "echo Chrome 1")
    assert run(path, python) == (0, str(works), "")


def test_without_any_playwright_brings_one(path: Path) -> None:
    python = program(path.parent / "python", 'if [ "$1" = -m ]; then exit 0; fi; echo /cache/chromium')
    assert run(path, python)[:2] == (0, "/cache/chromium")


def test_nothing_at_all_is_one_clear_line(path: Path) -> None:
    status, stamp, said = run(path, program(path.parent / "python", "exit 1"))
    assert (status, stamp) == (1, "")
    assert "install Chromium or Chrome, or name one by WEIR_BROWSER" in said
    assert said.count("\n") == 1


def test_make_test_sees_to_it_and_make_run_does_not() -> None:
    lines = (SCRIPT.parents[1] / "Makefile").read_text().splitlines()
    needs = {line.split(":")[0]: line.split("##")[0] for line in lines if line.startswith(("test:", "run:"))}
    assert "$(BROWSER)" in needs["test"]
    assert "$(BROWSER)" not in needs["run"]
    assert os.access(SCRIPT, os.R_OK)
