"""An archive of classes is used by the Java, with the jars and the options that it was made of, and by no other."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.platform import class_archive, kafka_server, registry_server
from services.platform.class_archive import archive, sharing
from services.platform.class_archive_making import OTHERS_MAX, STAMP, class_list, dump_argv
from services.platform.class_archive_making import make as make_missing
from services.platform.data_dir import DataDir
from services.platform.jars import Jars

NAMES = ("kafka", "registry")


def jars_in(cache: Path) -> Jars:
    found = Jars(*(cache / kind for kind in ("kafka", "registry", "serde", "chart")))
    for directory in (found.kafka, found.registry / "lib" / "main"):
        directory.mkdir(parents=True)
        (directory / "a.jar").write_bytes(b"a")
    (found.registry / "quarkus-run.jar").write_bytes(b"q")
    return found


@pytest.fixture
def jars(tmp_path: Path) -> Jars:
    return jars_in(tmp_path / "cache")


def make(jars: Jars, name: str) -> Path:
    file = archive(jars, name)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"classes")
    return file


@pytest.mark.parametrize("name", NAMES)
def test_what_was_made_is_used_and_its_sums_are_checked(jars: Jars, name: str) -> None:
    assert sharing(jars, name) == ()
    file = make(jars, name)
    assert sharing(jars, name) == (f"-XX:SharedArchiveFile={file}", "-Xshare:auto", "-XX:+VerifySharedSpaces")
    assert file.parent == jars.kafka.parent / "classes"


def newer(jars: Jars) -> None:
    for file in jars.kafka.parent.rglob("*.jar"):
        os.utime(file, ns=(1, 1))


def larger(jars: Jars) -> None:
    for file in jars.kafka.parent.rglob("a.jar"):
        kept = file.stat()
        file.write_bytes(b"ab")
        os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))


def one_more(jars: Jars) -> None:
    for directory in (jars.kafka, jars.registry / "lib" / "main"):
        (directory / "b.jar").write_bytes(b"b")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [newer, larger, one_more])
def test_other_jars_have_none(jars: Jars, name: str, change: Callable[[Jars], None]) -> None:
    make(jars, name)
    change(jars)
    assert sharing(jars, name) == ()


@pytest.mark.parametrize("name", NAMES)
def test_jars_at_another_place_have_none(jars: Jars, tmp_path: Path, name: str) -> None:
    make(jars, name)
    jars.kafka.parent.rename(tmp_path / "moved")
    moved = Jars(*(tmp_path / "moved" / kind for kind in ("kafka", "registry", "serde", "chart")))
    assert sharing(moved, name) == ()


@pytest.mark.parametrize("name", NAMES)
def test_another_java_has_none(jars: Jars, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "java"
    (home / "lib").mkdir(parents=True)
    (home / "lib" / "modules").write_bytes(b"m")
    (home / "release").write_text("25.0.2")
    monkeypatch.setattr(class_archive, "java_home", lambda: home)
    make(jars, name)
    assert sharing(jars, name)
    (home / "release").write_text("25.0.3")
    assert sharing(jars, name) == ()


@pytest.mark.parametrize("name", NAMES)
def test_other_options_of_java_have_none(jars: Jars, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make(jars, name)
    programs = {known: replace(program, options=("-Xmx1g",)) for known, program in class_archive.programs(jars).items()}
    monkeypatch.setattr(class_archive, "programs", lambda jars: programs)
    assert sharing(jars, name) == ()


def test_a_place_that_java_would_read_as_two_has_none(tmp_path: Path) -> None:
    jars = jars_in(tmp_path / "a:b")
    make(jars, "kafka")
    assert sharing(jars, "kafka") == ()


def test_servers_are_started_with_what_they_are_told(jars: Jars, tmp_path: Path) -> None:
    told = ("-XX:SharedArchiveFile=here", "-Xshare:auto")
    with DataDir.open(tmp_path / "data") as data:
        log = data.kafka / "log"
        log.mkdir()
        (log / "meta.properties").write_text("cluster.id=abcdefghijklmnopqrstuw\nnode.id=1\n")
        broker = kafka_server.prepare(data, jars, 1, 2, told).argv
        registry = registry_server.prepare(data, jars, 3, told).argv
        assert set(kafka_server.prepare(data, jars, 1, 2).argv) == set(broker) - set(told)
    assert broker.index(told[0]) < broker.index(told[1]) < broker.index("kafka.Kafka")
    assert registry.index(told[0]) < registry.index(told[1]) < registry.index("-jar")


def test_lists_of_several_runs_become_one() -> None:
    broker = "# a comment\njava/lang/Object id: 0\nkafka/Kafka id: 7\n@lambda-proxy kafka/Kafka run ()V\n"
    tool = "java/lang/Object id: 0\nkafka/tools/StorageTool id: 3\n"
    assert class_list([broker, tool]).splitlines() == [
        "java/lang/Object",
        "kafka/Kafka",
        "@lambda-proxy kafka/Kafka run ()V",
        "kafka/tools/StorageTool",
    ]


def test_numbers_stay_where_classes_of_one_name_come_from_several_files() -> None:
    text = "java/lang/Object id: 0\nA id: 1 super: 0 source: /one.jar\nA id: 2 super: 0 source: /two.jar\n"
    assert class_list([text]) == text


def test_an_archive_is_written_with_the_options_that_it_will_be_used_with(jars: Jars, tmp_path: Path) -> None:
    program = class_archive.programs(jars)["kafka"]
    argv = dump_argv(program, tmp_path / "list", tmp_path / "out")
    assert argv[1 : 1 + len(kafka_server.JVM)] == list(kafka_server.JVM)
    assert "-Xshare:dump" in argv
    assert tuple(argv[-2:]) == kafka_server.class_path(jars)


def test_what_is_there_is_not_made_again_and_of_others_the_newest_stay(jars: Jars) -> None:
    wanted = [make(jars, name) for name in NAMES]
    others = [wanted[0].with_name(f"kafka-{age:016}.jsa") for age in range(OTHERS_MAX + 2)]
    for age, other in enumerate(others):
        other.touch()
        os.utime(other, (0, 10**9 - age))
    make_missing(jars)
    assert [file.read_bytes() for file in wanted] == [b"classes"] * 2
    assert [other.exists() for other in others] == [True] * OTHERS_MAX + [False] * 2
    assert (wanted[0].parent / STAMP).exists()
