"""The journal of policies: one fold for everybody who reads it, and moves that hold only on what their author saw."""

from __future__ import annotations

from typing import Any

import pytest

from services.mesh.policy_registry import BESIDE_MAX, TEXTS_MAX, Inspection, PolicyRegistry, Rollout
from services.mesh.records import PolicyRelease


def release(version: str, move: str = "publish", **fields: Any) -> PolicyRelease:
    whole: Any = {
        "policy_version": version,
        "author": "ann",
        "why": "because",
        "policy": f"text of {version}",
        "move": move,
        "percent": 100,
        "approver": None,
        "expects": None,
        "diff": "",
        **fields,
    }
    return whole


def inspect(version: str, text: str) -> Inspection:
    return Inspection("does not load" if "broken" in version else "", "strict" in version)


def registry(*releases: PolicyRelease) -> PolicyRegistry:
    made = PolicyRegistry(inspect)
    for each in releases:
        assert made.apply(each) == ""
    return made


A, B, C = release("a"), release("b"), release("c")


def test_the_last_one_published_for_all_is_in_force() -> None:
    assert PolicyRegistry().in_force == ""
    assert registry(A, B).in_force == "b"
    assert registry(A, B).before == "a"


def test_a_share_is_tried_beside_the_one_in_force_and_ends_when_it_is_for_all() -> None:
    tried = registry(A, release("b", percent=10))
    assert (tried.in_force, tried.rollout) == ("a", Rollout("b", 10))
    assert tried.apply(release("b", percent=50, policy="")) == ""
    assert tried.rollout == Rollout("b", 50)
    assert tried.apply(release("b", policy="")) == ""
    assert (tried.in_force, tried.rollout) == ("b", None)


def test_a_share_of_another_policy_takes_its_place() -> None:
    assert registry(A, release("b", percent=10), release("c", percent=20)).rollout == Rollout("c", 20)


def test_whoever_is_published_for_all_ends_a_share_that_was_tried_against_another() -> None:
    assert registry(A, release("b", percent=10), C).rollout is None


def test_a_rollback_first_ends_a_rollout_then_returns_to_the_one_before() -> None:
    made = registry(A, B, release("c", percent=10))
    assert made.before == "b"
    assert made.apply(release("b", "rollback", policy="")) == ""
    assert (made.in_force, made.rollout, made.before) == ("b", None, "a")
    assert made.apply(release("a", "rollback", policy="")) == ""
    assert (made.in_force, made.before) == ("a", "")


def test_a_rollback_goes_back_any_number_of_steps() -> None:
    made = registry(A, B, C, release("a", "rollback", policy=""))
    assert (made.in_force, made.before) == ("a", "")


def test_shadows_judge_beside_the_newest_few_of_them() -> None:
    made = registry(A, *(release(f"s{n}", "shadow") for n in range(BESIDE_MAX + 1)))
    assert made.beside == [f"s{n}" for n in range(1, BESIDE_MAX + 1)]
    assert made.in_force == "a"
    assert made.apply(release("s2", "retire", policy="")) == ""
    assert "s2" not in made.beside
    assert made.apply(release("s3", policy="")) == ""
    assert (made.in_force, made.beside) == ("s3", ["s1"])


@pytest.mark.parametrize(
    ("move", "why"),
    [
        (release("c", expects="a"), "expects a in force, b is"),
        (release("d", policy=""), "d is not known here, and the move brings no text"),
        (release("c", percent=0), "percent=0: must be 1 to 100"),
        (release("c", percent=101), "percent=101: must be 1 to 100"),
        (release("b", "shadow"), "b is in force; publish another or roll back"),
        (release("b", "retire"), "b is in force; publish another or roll back"),
        (release("broken"), "does not load"),
        (release("broken", "shadow"), "does not load"),
    ],
)
def test_what_does_not_hold_changes_nothing_and_says_why(move: PolicyRelease, why: str) -> None:
    made = registry(A, B)
    assert made.apply(move) == why
    assert (made.in_force, made.rollout, made.beside, list(made.texts)) == ("b", None, [], ["a", "b"])


def test_the_first_policy_is_for_all() -> None:
    assert "publish it at 100" in PolicyRegistry().apply(release("a", percent=10))


def test_a_note_moves_nothing() -> None:
    made = registry(A, release("whatever", "note", policy=""))
    assert (made.in_force, list(made.texts)) == ("a", ["a"])


class TestTwoPeople:
    @pytest.mark.parametrize(("approver", "holds"), [(None, False), ("", False), ("ann", False), ("bob", True)])
    def test_whoever_replaces_a_policy_that_asks_for_it_needs_somebody_else(
        self, approver: str | None, holds: bool
    ) -> None:
        made = registry(A, release("strict"))
        found = made.apply(release("b", approver=approver))
        assert (found == "") is holds
        assert made.in_force == ("b" if holds else "strict")
        if not holds:
            assert "two people" in found

    def test_a_share_needs_it_too_and_a_rollback_does_not(self) -> None:
        made = registry(A, release("strict"))
        assert "two people" in made.apply(release("b", percent=1))
        assert made.apply(release("a", "rollback", policy="")) == ""

    def test_one_that_does_not_ask_is_replaced_by_anybody(self) -> None:
        assert registry(A, B).in_force == "b"


def test_texts_are_bounded_and_those_at_work_are_kept() -> None:
    made = registry(A, release("s", "shadow"), *(release(f"v{n}") for n in range(TEXTS_MAX + 20)))
    assert len(made.texts) == TEXTS_MAX
    assert "s" in made.texts
    assert made.in_force in made.texts
    assert made.apply(release("a", "rollback", policy="")) == "a is not known here, and the move brings no text"
    assert made.apply(release("a", "rollback")) == ""
    assert made.in_force == "a"


def test_the_same_moves_give_everybody_the_same() -> None:
    moves = [A, release("b", percent=5), release("broken"), C, release("b", "shadow"), release("a", "rollback")]
    one, other = PolicyRegistry(inspect), PolicyRegistry(inspect)
    assert [one.apply(move) for move in moves] == [other.apply(move) for move in moves]
    assert (one.served, one.rollout, one.beside) == (other.served, other.rollout, other.beside) == (["a"], None, ["b"])
