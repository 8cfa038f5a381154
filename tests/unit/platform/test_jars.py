"""Jars: only the pinned ones are ever run."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.mesh.errors import Fatal
from services.platform import jars


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("a.jar", "b.jar"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


@pytest.fixture
def sums() -> dict[str, str]:
    pinned = {f"kafka/{name}": hashlib.sha256(name.encode()).hexdigest() for name in ("a.jar", "b.jar")}
    return {**pinned, "serde/c.jar": "0" * 64}


def test_pinned_jars_pass(directory: Path, sums: dict[str, str]) -> None:
    jars.verify(directory, "kafka", sums)


def test_altered_jar_is_named(directory: Path, sums: dict[str, str]) -> None:
    (directory / "b.jar").write_bytes(b"b.jaR")
    with pytest.raises(Fatal, match=r"b\.jar has sha256 .*, pinned is .*: delete .* and run `make setup`") as refusal:
        jars.verify(directory, "kafka", sums)
    assert "\n" not in str(refusal.value)


def test_unknown_jar_is_named(directory: Path, sums: dict[str, str]) -> None:
    (directory / "c.jar").write_bytes(b"")  # known under another kind only
    with pytest.raises(Fatal, match=r"c\.jar is not in jars\.sha256"):
        jars.verify(directory, "kafka", sums)


def test_missing_jar_is_named(directory: Path, sums: dict[str, str]) -> None:
    (directory / "a.jar").unlink()
    with pytest.raises(Fatal, match=r"a\.jar is missing"):
        jars.verify(directory, "kafka", sums)


def test_every_kind_is_pinned_and_has_its_pom() -> None:
    kinds = {name.split("/")[0] for name in jars.read_sums(jars.SUMS_FILE)}
    assert kinds == set(jars.KINDS)
    assert all((jars.HERE / f"{kind}.pom.xml").exists() for kind in kinds)


def test_broken_pins_show_their_line(tmp_path: Path) -> None:
    (tmp_path / "sums").write_text("0" * 64 + "  kafka/a.jar\nabc  kafka/b.jar\n")
    with pytest.raises(Fatal, match=r"sums:2: 'abc  kafka/b\.jar' is not"):
        jars.read_sums(tmp_path / "sums")


def test_no_maven_is_one_clear_line(tmp_path: Path) -> None:
    environ = {**os.environ, "PATH": str(tmp_path), "WEIR_CACHE": str(tmp_path / "cache")}
    run = subprocess.run(
        [sys.executable, "-m", "services.platform.jars"], env=environ, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == os.EX_CONFIG
    assert run.stderr == (
        "weir: no Maven: `mvn` is not on PATH; install Maven 3.6 or newer and run `make setup` again\n"
    )
    assert run.stdout == ""


def test_failing_maven_is_one_line_with_its_reason(tmp_path: Path) -> None:
    maven = tmp_path / "mvn"
    maven.write_text(
        "#!/bin/sh\necho '[INFO] hm'\necho '[ERROR] no route to the repository'\necho '[ERROR] Help'\nexit 1\n"
    )
    maven.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin", "WEIR_CACHE": str(tmp_path / "cache")}
    run = subprocess.run(
        [sys.executable, "-m", "services.platform.jars"], env=environ, capture_output=True, text=True, timeout=60
    )
    assert run.stderr == "weir: Maven failed on kafka.pom.xml: [ERROR] no route to the repository\n"
    assert not (tmp_path / "cache" / "kafka").exists()


def test_a_jar_altered_in_the_cache_stops_the_start(tmp_path: Path) -> None:
    # The cache as a finished set-up leaves it, stamp and all, but for one altered jar.
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "HdrHistogram-2.2.2.jar").write_bytes(b"not what was pinned")
    (tmp_path / "kafka" / jars.STAMP).write_text(jars._stamp("kafka"))
    with pytest.raises(Fatal, match=r"HdrHistogram-2\.2\.2\.jar has sha256"):
        jars.ensure(tmp_path)


def test_new_jars_take_the_archives_of_the_old_ones_classes_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in jars.KINDS:
        (tmp_path / kind).mkdir()
        (tmp_path / kind / jars.STAMP).write_text(jars._stamp(kind))
    monkeypatch.setattr(jars, "verify", lambda *given: None)
    monkeypatch.setattr(jars, "_fetch", lambda *given: None)
    (tmp_path / jars.CLASSES).mkdir()
    jars.ensure(tmp_path)
    assert (tmp_path / jars.CLASSES).exists()
    (tmp_path / "registry" / jars.STAMP).write_text("another version's")
    jars.ensure(tmp_path)
    assert not (tmp_path / jars.CLASSES).exists()
