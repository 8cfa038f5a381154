"""Health checks that ask the server itself, in one small request, without a client library.

Most answer True or False, raise OSError when nobody is there, and give up after ``TIMEOUT_S``.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
from pathlib import Path

from services.platform.ports import HOST

TIMEOUT_S = 1.0
METADATA_KEY, METADATA_VERSION = 3, 2  # version 2 is the first that returns the cluster's id


def health_port(file: Path) -> int | None:
    """The port that a process has written to ``file``; None until it has opened one."""
    try:
        return int(json.loads(file.read_text())["port"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def health_answer(file: Path, path: str) -> str | None:
    """What the process that has written its port to ``file`` answers to ``path``; None when it does not."""
    port = health_port(file)
    if port is None:
        return None
    connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def redis_answers(host: str, port: int) -> bool:
    """Redis has its data loaded: while loading it answers ``-LOADING`` to everything."""
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith(b"+PONG")


def http_answers(host: str, port: int, path: str) -> bool:
    """An HTTP server gives 200 for ``path``."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


def kafka_answers(host: str, port: int, cluster_id: str) -> bool:
    """The broker of this very cluster has joined it and takes requests (a fenced broker is not in the metadata).

    A hand-made Metadata request, https://kafka.apache.org/protocol#The_Messages_Metadata: a librdkafka client per
    check would start three threads, and retry and log where a plain no is wanted.
    """
    request = struct.pack(">hhih", METADATA_KEY, METADATA_VERSION, 1, -1) + struct.pack(">i", 0)  # no topics
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        size = struct.unpack(">i", _read(connection, 4))[0]
        answer = _read(connection, size)
    brokers, offset = struct.unpack_from(">i", answer, 4)[0], 8
    for _ in range(brokers):
        offset += 4  # node id
        _, offset = _string(answer, offset)  # host
        offset += 4  # port
        _, offset = _string(answer, offset)  # rack
    answered_cluster_id, _ = _string(answer, offset)
    return brokers > 0 and answered_cluster_id == cluster_id


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionResetError("closed in the middle of an answer")
        data += piece
    return data


def _string(data: bytes, offset: int) -> tuple[str | None, int]:
    """Return a nullable string and the offset behind it."""
    length = struct.unpack_from(">h", data, offset)[0]
    offset += 2
    return (None, offset) if length < 0 else (data[offset : offset + length].decode(), offset + length)
