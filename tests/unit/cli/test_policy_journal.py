"""What a move of a policy says before it is appended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.cli import policy_journal
from services.cli.__main__ import main
from services.cli.policy_file import load_file
from services.cli.policy_journal import Book, Entry, diff_of, move
from services.decisions.library import Library
from services.decisions.policy import load_policy
from services.mesh.errors import Fatal
from services.mesh.feature_set import pinned_feature_set
from services.mesh.policy_registry import PolicyRegistry
from services.mesh.ports import InRecord

POLICY = Path(__file__).resolve().parents[3] / "schemas/payments/policy.yaml"


class Topic:
    """``policies.v1`` for one command: what is appended is there when it is read again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.values: list[bytes] = []
        self.audited: list[tuple[str, str, str]] = []
        monkeypatch.setattr(policy_journal, "append", self._append)
        monkeypatch.setattr(policy_journal, "journal", self._read)
        monkeypatch.setattr(policy_journal, "audit", self._audit)

    def _append(self, kafka: str, topic: Any, key: str, value: bytes) -> tuple[int, int]:
        self.values.append(value)
        return 0, len(self.values) - 1

    def _audit(self, kafka: str, action: str, subject: str, *, actor: str, **more: Any) -> None:
        self.audited.append((action, subject, actor))

    def _read(self, kafka: str, topic: Any) -> list[tuple[InRecord, dict[str, Any]]]:
        codec = policy_journal.Codec("policy_release.v1.avsc")
        return [
            (InRecord(topic.name, 0, offset, 7, None, value, ()), codec.decode(value))
            for offset, value in enumerate(self.values)
        ]


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    return Topic(monkeypatch)


def texts(number: int) -> tuple[str, str]:
    text = f"# {number}\n{POLICY.read_text()}"
    return load_policy(text, "here", pinned_feature_set().names).version, text


def published(kind: Any = "publish", number: int = 1, **fields: Any) -> Book:
    version, text = texts(number)
    move("kafka", policy_journal.read_book("kafka"), version, text, kind, why="w", author="ann", **fields)
    return policy_journal.read_book("kafka")


def test_a_move_tells_what_it_changes_and_what_it_expects(topic: Topic) -> None:
    published()
    book = published(number=2)
    first, second = (entry.release for entry in book.entries)
    assert (first["expects"], first["diff"]) == (None, "")
    assert second["expects"] == first["policy_version"]
    assert [line for line in second["diff"].splitlines() if line[:1] in "+-"][2:] == ["-# 1", "+# 2"]
    assert book.role(second["policy_version"]) == "in force"
    assert book.role(first["policy_version"]) == ""


def test_a_move_is_audited_once_it_holds(topic: Topic) -> None:
    book = published()
    version = book.registry.in_force
    assert topic.audited == [("policy.publish", f"policy:{version}", "ann")]
    with pytest.raises(Fatal, match="refused"):
        published("retire")
    assert len(topic.audited) == 1


def test_roles_are_told(topic: Topic) -> None:
    published()
    published(number=2, percent=10)
    book = published("shadow", 3)
    assert [book.role(texts(number)[0]) for number in (1, 2, 3)] == ["in force", "decides for 10%", "beside"]


@pytest.mark.parametrize(
    ("kind", "number", "message"),
    [
        ("shadow", 1, "shadow of .* is refused: .* is in force"),
        ("retire", 1, "retire of .* is refused: .* is in force"),
    ],
)
def test_what_would_be_void_is_not_even_appended(topic: Topic, kind: Any, number: int, message: str) -> None:
    published()
    with pytest.raises(Fatal, match=message):
        published(kind, number)
    assert len(topic.values) == 1


def test_whoever_was_faster_is_named(topic: Topic) -> None:
    published()
    late = policy_journal.read_book("kafka")
    faster = published(number=2).registry.in_force
    version, text = texts(3)
    with pytest.raises(Fatal, match=f"came too late: expects .* in force, {faster} is; see weir policy list"):
        move("kafka", late, version, text, "publish", why="w", author="bob")
    assert policy_journal.read_book("kafka").registry.in_force == faster


def test_a_missing_approver_is_asked_for(topic: Topic) -> None:
    strict = f"approval: two_people\n{POLICY.read_text()}"
    version = load_policy(strict, "here", pinned_feature_set().names).version
    move("kafka", policy_journal.read_book("kafka"), version, strict, "publish", why="w", author="ann")
    with pytest.raises(Fatal, match=r"asks for two people.*name one with --approver"):
        published()
    assert published(approver="bob").registry.in_force == texts(1)[0]


def test_a_policy_that_no_topic_carries_is_refused_before_kafka_does(topic: Topic) -> None:
    published()
    version, text = texts(2)
    book = policy_journal.read_book("kafka")
    book.registry.inspect = PolicyRegistry().inspect
    with pytest.raises(Fatal, match="shorten its lists"):
        move("kafka", book, version, text + "#" * 1_100_000, "publish", why="w", author="ann")
    assert len(topic.values) == 1


def test_a_reason_is_asked_for(topic: Topic) -> None:
    with pytest.raises(Fatal, match="--why is empty"):
        move("kafka", policy_journal.read_book("kafka"), *texts(1), "publish", why=" ", author="ann")


def test_an_unknown_version_is_told_the_known_ones() -> None:
    book = Book(Library(()), PolicyRegistry())
    with pytest.raises(Fatal, match="never released here; known are none"):
        book.released("x-00000000")
    version, text = texts(1)
    release: Any = {"policy_version": version, "policy": text}
    book.entries.append(Entry(InRecord("t", 0, 0, 0, None, None, ()), release, ""))
    assert book.released(version)["policy"] == text
    with pytest.raises(Fatal, match=version):
        book.released("x-00000000")


def test_a_diff_needs_two_texts() -> None:
    assert diff_of("", "a\n", "x", "y") == diff_of("a\n", "", "x", "y") == diff_of("a\n", "a\n", "x", "y") == ""
    assert diff_of("a\n", "b\n", "x", "y") == "--- x\n+++ y\n@@ -1 +1 @@\n-a\n+b\n"


def test_a_file_is_checked_as_the_service_would(capsys: pytest.CaptureFixture[str]) -> None:
    assert load_file(POLICY)[0].version == load_file(POLICY)[0].version
    assert main(["policy", "check", str(POLICY)]) == 0
    assert "with a fuse, no mistake" in capsys.readouterr().out
    assert main(["policy", "publish", "--percent", "0", "--why", "x", str(POLICY)]) == 1
    assert "--percent 0: write 1 to 100" in capsys.readouterr().err
