"""The broker's identity on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.mesh.errors import Fatal
from services.platform.kafka_server import _escaped, read_cluster_id


def test_cluster_id_is_read(tmp_path: Path) -> None:
    meta = tmp_path / "meta.properties"
    meta.write_text("#\n#Sat Nov 21\ncluster.id=abcdefghijklmnopqrstuw\nnode.id=1\nversion=1\n")
    assert read_cluster_id(meta) == "abcdefghijklmnopqrstuw"


@pytest.mark.parametrize("text", ["", "cluster.id=\nnode.id=1", "node.id=1", "cluster.id=abc\nnode.id=2", "\x00\x01"])
def test_corrupt_identity_is_one_clear_line(tmp_path: Path, text: str) -> None:
    meta = tmp_path / "meta.properties"
    meta.write_text(text)
    with pytest.raises(Fatal, match=r"meta\.properties is corrupt .*: restore it, or name a new directory"):
        read_cluster_id(meta)


def test_any_path_survives_a_properties_file() -> None:
    assert _escaped(Path("/a b\\c/é/\U0001f600")) == "/a b\\\\c/\\u00e9/\\ud83d\\ude00"
