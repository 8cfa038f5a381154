"""The data directory: one holder, one format, nobody else's files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.mesh.errors import Fatal
from services.platform.data_dir import FORMAT, DataDir, holder_pid


def test_a_new_directory_gets_its_layout_and_opens_again(tmp_path: Path) -> None:
    for _ in range(2):
        with DataDir.open(tmp_path / "a" / "b") as data:
            assert all(part.is_dir() for part in (data.logs, data.kafka, data.redis, data.registry))
    assert (tmp_path / "a" / "b" / "format").read_text() == FORMAT + "\n"


def test_in_use_names_the_holder(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from services.platform.data_dir import DataDir\n"
    code += "data = DataDir.open(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "d")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Fatal, match=f"in use by process {holder.pid}: stop it, or name another"):
            DataDir.open(tmp_path / "d")
        assert holder_pid(tmp_path / "d") == holder.pid
        holder.kill()  # even a killed holder holds it no longer
    assert holder_pid(tmp_path / "d") is None
    DataDir.open(tmp_path / "d").close()


def test_lock_names_this_holder_and_not_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("99999999\n")
    with DataDir.open(tmp_path):
        assert holder_pid(tmp_path) == os.getpid()


def test_somebody_elses_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(Fatal, match=r"no Weir data directory \(it holds 'thesis.tex'"):
        DataDir.open(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["weir-data 2\n", "", "\x00\xff"])
def test_unknown_format_is_refused_and_not_locked(tmp_path: Path, content: str) -> None:
    DataDir.open(tmp_path).close()
    (tmp_path / "format").write_text(content)
    with pytest.raises(Fatal, match="this Weir reads 'weir-data 1'") as refusal:
        DataDir.open(tmp_path)
    assert "\n" not in str(refusal.value)
    assert holder_pid(tmp_path) is None


def test_full_disk_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match=r"GiB free, .* are needed: make room"):
        DataDir.open(tmp_path / "d", free_bytes_min=2**62)


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("")
    with pytest.raises(Fatal, match="not usable: File exists: "):
        DataDir.open(tmp_path / "d")


def test_a_path_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(Fatal, match="not usable: Not a directory: "):
        DataDir.open(tmp_path / "f" / "d")
