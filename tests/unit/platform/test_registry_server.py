"""The registry's database on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.mesh.errors import Fatal
from services.platform import registry_server
from services.platform.data_dir import DataDir
from services.platform.jars import Jars


def prepare(path: Path, content: bytes | None) -> None:
    with DataDir.open(path) as data:
        if content is not None:
            (data.registry / "registry.mv.db").write_bytes(content)
        registry_server.prepare(data, Jars(path, path, path, path), 1)


@pytest.mark.parametrize("content", [None, b"H:2,block:8,blockSize:1000"])
def test_new_or_sound_database_is_taken(tmp_path: Path, content: bytes | None) -> None:
    prepare(tmp_path, content)


@pytest.mark.parametrize("content", [b"", b"H:2", b"\x00" * 4096])
def test_corrupt_database_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Fatal, match=r"registry\.mv\.db is corrupt \(no H2 file\): delete it"):
        prepare(tmp_path, content)


def test_path_that_a_database_url_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="has a ';'"):
        prepare(tmp_path / "a;b", None)
