"""The archives that `make setup` made of the servers' classes, on the real Java: used, and harmless when damaged."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from services.platform.class_archive import archive, programs, sharing
from services.platform.java import java
from services.platform.servers import Servers

pytestmark = pytest.mark.connected

NAMES = ("kafka", "registry")
MEGABYTE = 1 << 20


@pytest.mark.parametrize("name", NAMES)
def test_a_server_that_was_started_has_its_archive_in_memory(servers: Servers, name: str) -> None:
    pid = servers.supervisor.pid(name)
    assert pid is not None
    file = archive(servers.jars, name)
    assert file.exists(), "run `make setup`"
    assert str(file) in {found.path for found in psutil.Process(pid).memory_maps()}


def loaded(servers: Servers, options: tuple[str, ...]) -> dict[str, str]:
    """Class -> where from: those that the broker's program loads until it says how it is used."""
    program = programs(servers.jars)["kafka"]
    argv = [java(), *options, *program.options, "-Xlog:class+load", *program.class_path, "kafka.Kafka"]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1, ran.stderr[-2_000:]
    assert "USAGE" in ran.stdout + ran.stderr
    lines = [line.partition("] ")[2] for line in ran.stdout.splitlines() if " source: " in line]
    return {line.split()[0]: line.partition(" source: ")[2] for line in lines}


def test_classes_come_from_the_archive_and_without_it_from_the_jars(servers: Servers) -> None:
    name = "kafka.Kafka$"
    assert "shared objects file" in loaded(servers, sharing(servers.jars, "kafka"))[name]
    assert "kafka_2.13" in loaded(servers, ())[name]


def emptied(archived: bytes) -> bytes:
    return b""


def halved(archived: bytes) -> bytes:
    return archived[: len(archived) // 2]


def of_another_java(archived: bytes) -> bytes:
    return archived.replace(b"Temurin", b"Termite")


def damaged_within(archived: bytes) -> bytes:
    """A flipped bit in each page of the first half, behind the header."""
    found = bytearray(archived)
    found[MEGABYTE : len(found) // 2 : 4_096] = bytes(byte ^ 1 for byte in found[MEGABYTE : len(found) // 2 : 4_096])
    return bytes(found)


@pytest.mark.parametrize("damage", [emptied, halved, of_another_java, damaged_within])
def test_a_damaged_archive_is_as_none(servers: Servers, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    good = archive(servers.jars, "kafka")
    wrong = tmp_path / good.name
    wrong.write_bytes(damage(good.read_bytes()))
    assert wrong.read_bytes() != good.read_bytes()
    options = tuple(word.replace(str(good), str(wrong)) for word in sharing(servers.jars, "kafka"))
    assert str(wrong) in options[0]
    assert "shared" not in loaded(servers, options)["kafka.Kafka$"]
