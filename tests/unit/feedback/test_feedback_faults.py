"""Processes that die between any two effects, torn transactions, lost files: an outcome is in one place, once."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from feedback_world import DAY_MS, HOUR_MS, World, at, decision, outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from services.feedback.settings import JoinRules
from services.mesh.adapters.memory import Crash
from services.mesh.errors import Fenced, Transient

RULES = JoinRules(patience_ms=3 * HOUR_MS, maturity_ms=20 * HOUR_MS, memory_ms=1_000 * HOUR_MS)
EVENTS = [f"e-{number}" for number in range(10)]


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Inputs, turns and mishaps in any order; an event is decided once, most outcomes have one."""
    decided = draw(st.permutations(EVENTS))[: draw(st.integers(3, 10))]
    acts: list[tuple[Any, ...]] = [("decide", event, 4 * number) for number, event in enumerate(decided)]
    count = draw(st.integers(0, 14))
    for number in range(count):
        event = draw(st.sampled_from(EVENTS))
        revises = draw(st.sampled_from([None, None, None, *range(count)]))
        label = draw(st.sampled_from(["fraud", "genuine"]))
        acts.append(("observe", f"o-{number}", event, draw(st.integers(0, 30)), label, revises))
    mishaps = ["before_commit", "after_commit", "torn", "transient", "kill", "lose_files", "restart"]
    acts += [(draw(st.sampled_from(mishaps)),) for _ in range(draw(st.integers(0, 5)))]
    acts += [("turn", draw(st.integers(1, 4))) for _ in range(draw(st.integers(0, 10)))]
    return draw(st.permutations(acts))


def play(world: World, acts: list[tuple[Any, ...]]) -> dict[str, dict[str, Any]]:
    """Do everything, come to rest; the outcomes that were told."""
    told: dict[str, dict[str, Any]] = {}
    clock_hours = 0.0
    for act in acts:
        match act:
            case ("decide", event, hours):
                # Event time goes on, whatever the order in which the acts were drawn.
                clock_hours = max(clock_hours, hours)
                world.decide(decision(event, clock_hours / 24))
            case ("observe", name, event, hours, label, revises):
                told[name] = outcome(
                    name, event, hours / 24, label, revises=None if revises is None else f"o-{revises}"
                )
                world.observe(told[name])
            case ("turn", records_max):
                world.turn(records_max)
            case ("kill",):
                world.kill()
            case ("lose_files",):
                world.lose_files()
            case ("restart",):
                world.settle()
                world.kill()
            case (point,):
                world.faults = strike(world, point)
                world.turn(3)
    world.faults = lambda point: None
    world.settle()
    return told


def strike(world: World, point: str) -> Any:
    def at_point(now: str) -> None:
        if point == "transient" and now == "before_commit":
            world.faults = lambda point: None
            raise Transient("the broker hiccups")
        if point == now:
            world.faults = lambda point: None
            raise Transient("torn") if point == "torn" else Crash(point)

    return at_point


def check(world: World, told: dict[str, dict[str, Any]]) -> None:
    """What the design promises, looked for in the topics."""
    marks = world.label_marks()
    joined = [name for _, name, _, _ in marks if name is not None]
    orphaned = [name for name, _ in world.orphans()]
    assert max(Counter([*joined, *orphaned]).values(), default=1) == 1, "each outcome in one place, once"
    waiting = set(told) - set(joined) - set(orphaned)
    assert world.waiting() == len(waiting)
    decided = {record["event_id"] for record in world.labels()}
    for name in joined:
        assert name is not None
        assert told[name]["event_id"] in decided
    versions: dict[str, list[int]] = {}
    for event, _, _, version in marks:
        versions.setdefault(event, []).append(version)
    for event, found in versions.items():
        observed = found[1:] if found[0] == 0 else found
        assert observed == list(range(1, len(observed) + 1)), f"{event}: {found}"
    latest: dict[str, str] = {}
    updates: list[tuple[str, str, int]] = []
    counts: Counter[str] = Counter()
    for event, _, label, _ in marks:
        if latest.get(event) != label:
            latest[event] = label
            counts[event] += 1
            updates.append((event, label, counts[event]))
    assert world.updates() == updates


@settings(max_examples=150, deadline=None)
@given(acts=histories())
def test_whatever_happens_each_outcome_is_in_one_place(acts: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory), rules=RULES)
        try:
            told = play(world, acts)
            check(world, told)
            # And it goes on right: the clock passes everybody's patience, and every event's maturity.
            world.decide(decision("late-1", 3), decision("late-2", 6))
            world.settle()
            check(world, told)
            assert world.waiting() == 0
            labelled = {event for event, *_ in world.label_marks()}
            assert {act[1] for act in acts if act[0] == "decide"} <= labelled
        finally:
            world.kill()


def test_a_lost_file_is_filled_from_the_log_and_says_nothing_twice(tmp_path: Path) -> None:
    world = World(tmp_path, rules=JoinRules(maturity_ms=7 * DAY_MS))
    world.decide(*(decision(f"e-{n}", n / 10) for n in range(100)))
    world.observe(*(outcome(f"o-{n}", f"e-{n}", 9 + n / 100) for n in range(0, 100, 3)))
    world.observe(outcome("o-x", "nobody", 12), outcome("o-y", "e-50", 12, revises="o-none"))
    world.settle()
    before = (world.label_marks(), world.orphans(), world.waiting())
    world.lose_files()
    world.settle()
    assert (world.label_marks(), world.orphans(), world.waiting()) == before
    assert before[2] == 2
    world.observe(outcome("o-0", "e-0", 9), outcome("o-none", "e-50", 11), outcome("o-3b", "e-3", 10, "genuine"))
    world.settle()
    assert world.label_marks()[len(before[0]) :] == [
        ("e-50", "o-none", "fraud", 1),
        ("e-50", "o-y", "fraud", 2),
        ("e-3", "o-3b", "genuine", 2),
    ]


def test_a_file_that_is_a_batch_behind_reads_only_the_end_of_what_was_written(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.decide(*(decision(f"e-{n}", n / 1_000) for n in range(3_000)))
    world.observe(*(outcome(f"o-{n}", f"e-{n}", 4) for n in range(2_990)))
    world.settle()
    world.observe(*(outcome(f"o-{n}", f"e-{n}", 4) for n in range(2_990, 3_000)))
    world.faults = strike(world, "after_commit")
    world.turn()
    world.labels_log.looked_at = 0
    world.settle()
    assert len(world.label_marks()) == 3_000
    assert world.labels_log.looked_at <= 1_010


def test_a_file_of_long_ago_is_brought_up_to_date(tmp_path: Path) -> None:
    """A data directory that was put back: what was written since then is read, however much it is."""
    files, kept = tmp_path / "files", tmp_path / "kept"
    world = World(files, rules=JoinRules(patience_ms=DAY_MS, maturity_ms=60 * DAY_MS))
    world.decide(*(decision(f"e-{n}", n / 1_000) for n in range(4_000)))
    world.observe(*(outcome(f"o-{n}", f"e-{n}", 5) for n in range(100)))
    world.settle()
    world.kill()
    shutil.copytree(files, kept)
    world.observe(*(outcome(f"o-{n}", f"e-{n}", 5) for n in range(100, 2_600)), outcome("o-x", "nobody", 1))
    world.settle()
    world.lose_files()
    shutil.copytree(kept, files, dirs_exist_ok=True)
    world.settle()
    world.observe(outcome("o-0", "e-0", 5), outcome("o-200", "e-200", 5), outcome("o-x", "nobody", 1))
    world.settle()
    assert len(world.label_marks()) == 2_600
    assert (world.orphans(), world.waiting()) == ([("o-x", "no_decision")], 0)


def test_what_an_earlier_hop_wrote_twice_is_taken_once_by_a_file_that_is_filled_anew(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.decide(decision("e-1"))
    world.repeat_latest_decision()
    world.settle()
    world.lose_files()
    world.decide(decision("e-2", 40))
    world.settle()
    assert world.label_marks() == [("e-1", None, "genuine", 0)]


def test_orphans_and_matured_labels_are_not_written_again_by_a_file_that_is_filled_anew(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.observe(outcome("o-1", "nobody", 1))
    world.decide(decision("e-1"), decision("e-2", 40))
    world.settle()
    world.lose_files()
    world.decide(decision("e-3", 41))
    world.settle()
    assert world.orphans() == [("o-1", "no_decision")]
    assert world.label_marks() == [("e-1", None, "genuine", 0)]


def test_a_damaged_file_is_thrown_away(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.decide(*(decision(f"e-{n}") for n in range(200)))
    world.observe(outcome("o-1", "e-1", 1))
    world.settle()
    world.kill()
    (path,) = tmp_path.glob("*.sqlite")
    damaged = bytearray(path.read_bytes())
    for start in range(4_096, len(damaged), 4_096):
        damaged[start : start + 64] = b"\xff" * 64
    path.write_bytes(damaged)
    world.observe(outcome("o-2", "e-2", 1), outcome("o-1", "e-1", 1))
    world.settle()
    assert world.label_marks() == [("e-1", "o-1", "fraud", 1), ("e-2", "o-2", "fraud", 1)]


def test_a_file_of_another_log_or_ahead_of_this_one_is_not_used(tmp_path: Path) -> None:
    other = World(tmp_path)
    other.decide(decision("e-1"), decision("e-2"))
    other.observe(outcome("o-1", "e-1", 1))
    other.settle()
    other.kill()
    world = World(tmp_path)
    world.observe(outcome("o-1", "e-1", 0.1))
    world.settle()
    assert (world.label_marks(), world.waiting()) == ([], 1)
    world.decide(decision("e-1"))
    world.settle()
    assert world.label_marks() == [("e-1", "o-1", "fraud", 1)]


def test_nobody_waits_for_the_file_of_an_idle_process(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.observe(outcome("o-1", "nobody", 1))
    world.decide(decision("e-1"), decision("e-2", 130))
    world.settle()
    for _ in range(2):
        archive = world.handlers[-1]._joiners[0].archive
        assert not archive._connection.in_transaction
        world.kill()
        world.settle()


def test_a_process_that_was_taken_for_dead_writes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.decide(decision("e-1"))
    zombie = world.started()
    zombie.turn()
    left = world.handlers.pop()  # the zombie keeps its file open
    world.settle()
    world.observe(outcome("o-1", "e-1", 1))
    world.settle()
    joiner = left._joiners[0]
    joiner.archive.place.clock_ms = at(99)
    with pytest.raises(Fenced):
        joiner.archive.commit()
    assert world.handlers[-1]._joiners[0].archive.place.clock_ms == at(0)
    left.close()


def test_a_process_that_stands_still_with_the_lock_is_not_waited_for(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.decide(decision("e-1"))
    zombie = world.started()
    zombie.turn()
    left = world.handlers.pop()
    left._joiners[0].archive.begin()  # stopped in the middle of a step
    world.observe(outcome("o-1", "e-1", 1))
    world.settle()
    assert world.label_marks() == [("e-1", "o-1", "fraud", 1)]
    left._joiners[0].archive.commit()
    left.close()
    world.kill()
    world.observe(outcome("o-2", "e-1", 1, "genuine"))
    world.settle()
    assert world.label_marks()[1:] == [("e-1", "o-2", "genuine", 2)]
