"""endpoints.json: what people outside read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from services.mesh.errors import Fatal
from services.platform import endpoints
from services.platform.endpoints import Endpoints

SOME = Endpoints(kafka="127.0.0.1:9092", redis="redis://127.0.0.1:6379/0", schema_registry="http://127.0.0.1:8081/x")


def test_file_has_the_promised_names(tmp_path: Path) -> None:
    dataclasses.replace(SOME, ready=True).write(tmp_path)
    assert json.loads((tmp_path / "endpoints.json").read_text()) == {
        "kafka": "127.0.0.1:9092",
        "redis": "redis://127.0.0.1:6379/0",
        "schema_registry": "http://127.0.0.1:8081/x",
        "gateway": None,
        "console": None,
        "ready": True,
    }


def test_reads_back_what_it_wrote(tmp_path: Path) -> None:
    SOME.write(tmp_path)
    assert Endpoints.read(tmp_path) == SOME
    assert [path.name for path in tmp_path.iterdir()] == ["endpoints.json"]


def test_no_mesh_is_one_clear_line(tmp_path: Path) -> None:
    SOME.write(tmp_path)
    endpoints.remove(tmp_path)
    endpoints.remove(tmp_path)
    with pytest.raises(Fatal, match=r"no mesh runs on .*: start one with `make run`"):
        Endpoints.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"kafka": "a"', '{"kafka": "a", "surprise": 1}'])
def test_corrupt_file_is_one_clear_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "endpoints.json").write_text(text)
    with pytest.raises(Fatal, match=r"endpoints\.json is corrupt"):
        Endpoints.read(tmp_path)
