"""One platform for the whole run: its start costs five seconds, a test's own names cost nothing."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.platform.servers import Servers, running


def pytest_configure() -> None:
    """`make test` started us: a make that a test starts must not take itself for that one's child."""
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        os.environ.pop(name, None)
    # Brokers that live a minute: what the optimising compiler would spend is never earned back.
    os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
    # Hundreds of processes, each of which would translate the same modules again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Meshes first: what takes a minute must not be begun when the other workers have nothing left."""
    items.sort(key=lambda item: item.path.parent.name != "connected")


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """The broker, Redis and the schema registry, on ports of their own; ``servers.endpoints`` says where."""
    path = Path(tempfile.mkdtemp(prefix="weir-test-"))
    environ = {name: value for name, value in os.environ.items() if not re.fullmatch("WEIR_[A-Z]+_PORT", name)}
    with running(path / "data", environ=environ) as started:
        yield started
    if request.session.testsfailed:
        print(f"\nlogs of the servers: {path / 'data' / 'logs'}")
    else:
        shutil.rmtree(path)


@pytest.fixture
def own_name(request: pytest.FixtureRequest) -> str:
    """A name that no other test and no earlier run uses: for topics, groups, transactional ids, keys."""
    test = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60]
    return f"{test}-{uuid.uuid4().hex[:8]}"
