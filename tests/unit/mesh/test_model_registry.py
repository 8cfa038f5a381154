"""The journal of models, folded: who serves, who runs beside, and which moves are void."""

from __future__ import annotations

import pytest

from services.mesh.bundle_parts import Bundle
from services.mesh.model_registry import BESIDE_MAX, BOOTSTRAP, BUNDLES_MAX, Canary, Registry, release_of
from services.mesh.records import ModelMove, ModelRelease

BYTES = Bundle(manifest=b"{}", signature=b"s", model=b"m", fallback=b"f")


def move(
    version: str, what: ModelMove, *, with_bundle: bool = False, expects: str | None = None, percent: int = 0
) -> ModelRelease:
    return release_of(
        version, what, why="test", actor="test", event_time_ms=1, bundle=BYTES if with_bundle else None,
        expects=expects, canary_percent=percent,
    )  # fmt: skip


def folded(*moves: ModelRelease) -> tuple[Registry, list[str]]:
    registry = Registry()
    return registry, [registry.apply(release) for release in moves]


def new(version: str, what: ModelMove = "promote", **fields: str | int | None) -> ModelRelease:
    return move(version, what, with_bundle=True, **fields)  # type: ignore[arg-type]


def test_a_move_holds_only_where_it_finds_the_champion_that_it_expects() -> None:
    registry, voids = folded(
        new("a", expects=BOOTSTRAP), new("b", expects=BOOTSTRAP), new("c", expects="a"), new("d", expects=None)
    )
    assert voids == ["", "expects bootstrap to serve, a does", "", ""]
    assert registry.promoted == ["a", "c", "d"]
    assert "b" not in registry.bundles, "a void move leaves nothing behind"


def test_two_who_move_at_once_never_both_win() -> None:
    """Both looked while a served: the one that the log has second is void, whichever that is."""
    for first, second in (("b", "c"), ("c", "b")):
        registry, voids = folded(new("a"), new(first, expects="a"), new(second, expects="a"))
        assert registry.champion == first
        assert voids[2] == f"expects a to serve, {first} does"


def test_a_rollback_takes_back_everything_promoted_since() -> None:
    registry, voids = folded(new("a"), new("b"), new("c"), move("a", "rollback", expects="c"))
    assert voids == ["", "", "", ""]
    assert registry.promoted == ["a"], "were a refused, b and c would not come back"
    assert "c" in registry.bundles, "it may run beside, to be watched"


def test_a_rollback_that_brings_its_bundle_needs_nothing_kept() -> None:
    registry, voids = folded(new("a"), move("z", "rollback"), new("z", "rollback"))
    assert voids[1:] == ["z is not known here, and the move brings no bundle", ""]
    assert registry.promoted == ["a", "z"]


def test_a_canary_takes_a_share_and_the_champion_goes_on() -> None:
    registry, voids = folded(
        new("a"), new("b", "challenge"), move("b", "canary", percent=10), move("a", "canary", percent=5),
        move("b", "canary", percent=0), move("b", "canary", percent=25),
    )  # fmt: skip
    assert voids == ["", "", "", "a serves already", "canary_percent=0: must be 1 to 100", ""]
    assert (registry.champion, registry.running) == ("a", ["b"])
    assert registry.canary == Canary(model_version="b", percent=25)


def test_who_was_promoted_leaves_the_canary_and_the_one_before_may_be_watched() -> None:
    registry, _ = folded(
        new("a"), new("b"), move("a", "promote"), move("b", "canary", percent=25), move("b", "promote")
    )
    assert registry.canary is None
    assert (registry.champion, registry.running) == ("b", [])
    assert registry.apply(move("a", "challenge")) == ""
    assert (registry.promoted, registry.running) == (["a", "b"], ["a"]), "watched, and still next in line"


def test_the_champion_does_not_run_beside_itself() -> None:
    registry, voids = folded(new("a"), move("a", "challenge"))
    assert voids == ["", "a serves already"]
    assert registry.running == []


def test_the_retired_is_gone_and_the_one_before_serves() -> None:
    registry, _ = folded(new("a"), new("b"), move("b", "retire"))
    assert registry.champion == "a"
    assert registry.apply(move("b", "promote")) == "b is not known here, and the move brings no bundle"


def test_a_note_moves_nothing() -> None:
    registry, voids = folded(new("a"), move("zzz", "note", expects="somebody"))
    assert voids == ["", ""]
    assert (registry.champion, list(registry.bundles)) == ("a", ["a"])


@pytest.mark.parametrize("what", ["promote", "challenge"])
def test_memory_is_bounded_and_nothing_that_runs_is_forgotten(what: ModelMove) -> None:
    registry, _ = folded(new("first"), *(new(f"v{n}", what) for n in range(100)))
    assert len(registry.bundles) <= BUNDLES_MAX
    assert len(registry.promoted) <= BUNDLES_MAX
    assert len(registry.beside) <= BESIDE_MAX
    assert registry.champion in registry.bundles
    assert set(registry.running) <= registry.bundles.keys()
