"""The audit trail's entries."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.cli.audit import chosen
from services.mesh.audit import DETAIL_CHARACTERS_MAX, WHY_CHARACTERS_MAX, audit_entry, audit_of, audit_record

SAID: dict[str, Any] = {
    "actor": "vera", "role": "analyst", "action": "review.claim", "subject": "case:1", "time_ms": 5, "origin": "cli",
}  # fmt: skip


def test_an_entry_goes_to_the_one_partition_under_its_subject() -> None:
    entry = audit_entry(**SAID, why="w", detail={"b": 1, "a": "ü"})
    record = audit_record(entry)
    assert (record.topic, record.key, record.partition) == ("audit.v1", b"case:1", 0)
    assert audit_of(record.value) == entry
    assert json.loads(entry["detail"]) == {"a": "ü", "b": 1}


def test_an_entry_that_is_written_twice_has_one_id_and_every_other_has_its_own() -> None:
    entries = [audit_entry(**SAID), audit_entry(**SAID)]
    entries += [
        audit_entry(**{**SAID, name: value}) for name, value in (("actor", "x"), ("time_ms", 6), ("role", "viewer"))
    ]
    entries += [audit_entry(**SAID, why="w"), audit_entry(**SAID, detail={"a": 1})]
    assert len({entry["audit_id"] for entry in entries}) == len(entries) - 1


def test_a_long_reason_is_cut_and_a_huge_detail_refused() -> None:
    assert len(audit_entry(**SAID, why="w" * 9_999)["why"]) == WHY_CHARACTERS_MAX
    with pytest.raises(ValueError, match="name the subject"):
        audit_entry(**SAID, detail={"a": "x" * DETAIL_CHARACTERS_MAX})


def test_a_reason_is_one_line_that_no_terminal_obeys() -> None:
    assert audit_entry(**SAID, why=" two\nlines\t and \x1b[2J\x00bell\u202e ")["why"] == "two lines and [2Jbell"


def test_the_trail_is_searched_by_subject_kind_actor_and_action() -> None:
    entries = [
        audit_entry(**{**SAID, "subject": subject, "actor": actor, "action": action})
        for subject, actor, action in (
            ("case:1", "vera", "review.claim"),
            ("case:12", "omar", "review.verdict"),
            ("policy:p", "rosa", "policy.publish"),
        )
    ]
    twice = [*entries, entries[0]]

    def found(subject: str | None = None, actor: str | None = None, action: str | None = None) -> list[str]:
        return [entry["subject"] for entry in chosen(twice, subject, actor, action)]

    assert found() == ["case:1", "case:12", "policy:p"]
    assert found("case:1") == ["case:1"]
    assert found("case:") == ["case:1", "case:12"]
    assert found(actor="rosa") == ["policy:p"]
    assert found("case:", action="review.v") == ["case:12"]
