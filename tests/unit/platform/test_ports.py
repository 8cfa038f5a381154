"""Ports: the usual one, a free one, or the one demanded."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from services.mesh.errors import Fatal
from services.platform.ports import FREE_PORTS, HOST, Ports


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def test_usual_port_when_free(free_port: int) -> None:
    ports = Ports({})
    assert ports.lease("kafka", free_port) == free_port
    ports.release()


def test_another_port_when_the_usual_one_is_taken(listener: int) -> None:
    ports = Ports({})
    assert ports.lease("kafka", listener) in FREE_PORTS
    ports.release()


def test_two_meshes_starting_at_once_get_different_ports(free_port: int) -> None:
    first, second = Ports({}), Ports({})
    assert first.lease("kafka", free_port) == free_port  # nobody listens yet
    assert second.lease("kafka", free_port) != free_port
    first.release()
    assert second.lease("redis", free_port) == free_port
    second.release()


def test_demanded_port_is_taken_or_refused(listener: int, free_port: int) -> None:
    ports = Ports({"WEIR_KAFKA_PORT": str(free_port), "WEIR_REDIS_PORT": str(listener)})
    assert ports.lease("kafka", 1) == free_port
    with pytest.raises(Fatal, match=f"WEIR_REDIS_PORT={listener}: the port is taken: stop what listens there"):
        ports.lease("redis", 1)
    ports.release()


@pytest.mark.parametrize("value", ["0", "65536", "-1", "http", "９０９２ "])
def test_what_is_no_port_is_refused(value: str) -> None:
    with pytest.raises(Fatal, match="must be a port from 1 to 65535"):
        Ports({"WEIR_KAFKA_PORT": value}).lease("kafka", 1)
