"""The walls of ``.importlinter`` hold, and each of them bites when it is broken on purpose."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import ROOT

LINT = Path(sys.executable).with_name("lint-imports")


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    """The walls as they stand in ``root``; that directory's packages come before the installed ones."""
    environ = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        [str(LINT), "--no-cache", "--config", str(root / ".importlinter")],
        cwd=root, env=environ, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_the_walls_hold() -> None:
    run = lint(ROOT)
    assert run.returncode == 0, run.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in ("services", "schemas"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def add_line(file: str, line: str) -> Callable[[Path], None]:
    def break_it(root: Path) -> None:
        with (root / file).open("a") as out:
            out.write(f"\n{line}\n")

    return break_it


def add_room(root: Path) -> None:
    (root / "services/unlisted").mkdir()
    (root / "services/unlisted/__init__.py").write_text('"""A room that nobody listed."""\n')


def drop_an_excused_import(root: Path) -> None:
    text = (root / "services/mesh/signing.py").read_text()
    (root / "services/mesh/signing.py").write_text(text.replace("import tempfile", "tempfile: object"))


BREAKS = {
    "a service imports its neighbour": (
        add_line("services/scoring/bootstrap.py", "import services.decisions.verdict"),
        "services.scoring.bootstrap -> services.decisions.verdict",
    ),
    "the mesh imports a service": (
        add_line("services/mesh/identity.py", "import services.scoring.bootstrap"),
        "services.mesh.identity -> services.scoring.bootstrap",
    ),
    "a service imports the platform": (
        add_line("services/features/words.py", "import services.platform.files"),
        "services.features.words -> services.platform.files",
    ),
    "a pure module looks at the clock": (
        add_line("services/features/kernel.py", "import time"),
        "services.features.kernel -> time",
    ),
    "a pure module reads the environment": (
        add_line("services/decisions/policy.py", "import os"),
        "services.decisions.policy -> os",
    ),
    "a handler imports a client library": (
        add_line("services/decisions/handler.py", "import confluent_kafka"),
        "services.decisions.handler -> confluent_kafka",
    ),
    "xgboost outside its files": (
        add_line("services/scoring/roster.py", "import xgboost"),
        "services.scoring.roster -> xgboost",
    ),
    "schemas import a service": (
        add_line("schemas/__init__.py", "import services.mesh.errors"),
        "schemas -> services.mesh.errors",
    ),
    "a room that nobody listed": (add_room, "unlisted"),
    "an excuse that nobody needs": (drop_an_excused_import, "services.mesh.signing -> tempfile"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_wall_is_named(name: str, copy: Path) -> None:
    break_it, named = BREAKS[name]
    break_it(copy)
    run = lint(copy)
    assert run.returncode != 0, f"{name}: nobody noticed\n{run.stdout}"
    assert named in run.stdout + run.stderr, run.stdout + run.stderr
