"""The two commands as people type them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(*arguments: str, cwd: Path = ROOT, path: str | None = None) -> subprocess.CompletedProcess[str]:
    names = ("INPUT", "SPEED", "FOR", "DATA", "LABEL_DELAY", "REVIEWED", "SCENARIO", "WEIR_CACHE", "MAKEFLAGS")
    environ = {name: value for name, value in os.environ.items() if name not in names}
    if path is not None:
        environ["PATH"] = path
    program = shutil.which("make")
    assert program is not None
    return subprocess.run([program, *arguments], cwd=cwd, env=environ, capture_output=True, text=True, timeout=60)


def tools(directory: Path, *names: str) -> str:
    """Make a PATH of just the named programs."""
    directory.mkdir()
    for name in names:
        (directory / name).symlink_to(shutil.which(name) or "")
    return str(directory)


def test_run_passes_its_variables_on_as_single_words() -> None:
    given = ["INPUT=my file's.parquet", "SPEED=max", "FOR=240", "DATA=$HOME/d", "LABEL_DELAY=7d", "REVIEWED=100"]
    given = [value.replace("$", "$$") for value in given]
    printed = subprocess.run(
        ["sh", "-c", make("run", "WEIR=printf '%s|'", "-n", "-o", "setup", *given).stdout.removeprefix("exec ")],
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert printed == (
        "up|--input|my file's.parquet|--speed|max|--for|240|--data-dir|$HOME/d|--label-delay|7d|--reviewed|100|"
    )


def test_run_with_nothing_asks_for_nothing() -> None:
    assert make("run", "-n", "-o", "setup").stdout.strip() == "exec .venv/bin/weir up"


def test_help_names_every_command() -> None:
    printed = make("help").stdout
    assert [line.split()[1] for line in printed.splitlines() if "  " in line][:4] == ["help", "setup", "run", "test"]


def test_old_python_is_one_clear_line(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    path = tools(tmp_path / "bin", "sh", "true")
    (tmp_path / "bin" / "python3").write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.10.2 || exit 1\n')
    (tmp_path / "bin" / "python3").chmod(0o755)
    run = make("setup", cwd=tmp_path, path=path)
    assert run.stderr.splitlines()[0] == "weir: no Python >= 3.11 on PATH (python3 is Python 3.10.2): install one"
    assert run.returncode != 0


def test_no_maven_is_one_clear_line(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "services/platform").mkdir(parents=True)
    for path in (*(ROOT / "services/platform").glob("*.pom.xml"), ROOT / "services/platform/jars.sha256"):
        shutil.copy(path, tmp_path / "services/platform")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/stamp").touch()  # the environment is there
    run = make("setup", cwd=tmp_path, path=tools(tmp_path / "bin", "sh"))
    assert run.stderr.splitlines()[0] == "weir: no Maven: mvn is not on PATH; install Maven 3.6 or newer"
    assert run.returncode != 0
