"""Releases, folded in the order of the journal."""

from __future__ import annotations

from typing import Any

import pytest

from services.mesh.model_registry import BESIDE_MAX
from services.scoring.roster import Roster


def roster(*moves: tuple[str, str, bytes]) -> Roster:
    made = Roster()
    for version, move, model in moves:
        release: Any = {
            "model_version": version,
            "move": move,
            "why": "",
            "event_time_ms": 0,
            "manifest": "{}",
            "signature": b"s",
            "model": model,
            "fallback_model": model,
            "expects": None,
            "canary_percent": 0,
        }
        made.apply(release)
    return made


@pytest.mark.parametrize(
    ("moves", "champion", "beside"),
    [
        ([], None, []),
        ([("a", "promote", b"m")], "a", []),
        ([("a", "promote", b"m"), ("b", "promote", b"m")], "b", []),
        ([("a", "promote", b"m"), ("b", "promote", b"m"), ("b", "retire", b"")], "a", []),
        ([("a", "promote", b"m"), ("b", "promote", b"m"), ("a", "promote", b"")], "a", []),
        ([("a", "challenge", b"m"), ("a", "promote", b"")], "a", []),
        ([("a", "promote", b"m"), ("a", "challenge", b"")], "a", []),  # who serves does not run beside itself
        ([("a", "promote", b"")], None, []),  # never had its bytes
        ([("a", "promote", b"m"), ("a", "retire", b""), ("a", "promote", b"")], None, []),
        ([(v, "challenge", b"m") for v in "abcde"], None, list("bcde")),
    ],
)
def test_who_serves_and_who_runs_beside(
    moves: list[tuple[str, str, bytes]], champion: str | None, beside: list[str]
) -> None:
    made = roster(*moves)
    assert made.champion() == champion
    assert made.beside() == beside
    assert len(made.beside()) <= BESIDE_MAX


def test_the_refused_do_not_count_until_they_are_retired_and_released_anew() -> None:
    made = roster(("a", "promote", b"m"), ("b", "promote", b"m"), ("c", "challenge", b"m"))
    made.refuse("b")
    made.refuse("c")
    assert (made.champion(), made.beside()) == ("a", [])
    again: Any = {"model_version": "b", "move": "promote", "manifest": "{}", "signature": b"", "model": b"n",
                  "fallback_model": b"n", "expects": None, "canary_percent": 0}  # fmt: skip
    assert "was released with other bytes" in made.apply(again)
    assert made.champion() == "a"
    assert made.apply({**again, "move": "retire", "model": b""}) == ""
    assert made.apply(again) == ""
    assert made.champion() == "b"
