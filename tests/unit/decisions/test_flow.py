"""Fuses and the review budget are functions of the log: of its order, not of batches, and the same after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from recorded import BUSY, DAY_MS, HOUR_MS, PARTITIONS, START_MS, appended, cut, decided, events, scores
from test_desk_policies import PIN, Shelf, named

from services.decisions.checkpoint import EVERY, POLICY_STATE, Restorer, follow, packed, unpacked
from services.decisions.declared import Fuse, Rule, Season
from services.decisions.flow import LONG_AGO_MS, FuseBox, FuseCounts, PartitionState, share_of
from services.decisions.handler import DecisionsHandler
from services.decisions.policy import load_policy
from services.mesh.codec import Codec
from services.mesh.headers import TRACEPARENT, find
from services.mesh.ports import CommittedOffset, InRecord
from services.mesh.watermark import Marks
from tests.unit.decisions.scored_events import policy, rule

DECISION = Codec("decision.v1.avsc")
CONDITION = policy(rules=rule("any", "amount > 0", "decline")).rules[0].condition


def fused(name: str, rate: float, season: Season = Season.ALWAYS) -> Rule:
    return Rule(name, CONDITION, "decline", (name, "Text."), season, "", rate)


class Naive:
    """One event at a time, as the docstring of ``flow.py`` says it."""

    def __init__(self, rules: list[Rule], fuse: Fuse) -> None:
        self.rules, self.fuse = rules, fuse
        self.clock, self.window = LONG_AGO_MS, -1
        self.hits = [0] * len(rules)
        self.events = [0, 0, 0]
        self.until = [LONG_AGO_MS] * len(rules)

    def count(self, time_ms: int, hits: list[bool], seasons: list[bool]) -> list[bool]:
        self.clock = max(self.clock, time_ms)
        if self.clock // self.fuse.window_ms != self.window:
            self.window = self.clock // self.fuse.window_ms
            self.hits, self.events = [0] * len(self.rules), [0, 0, 0]
        self.events = [count + here for count, here in zip(self.events, seasons, strict=True)]
        for place, one in enumerate(self.rules):
            self.hits[place] += hits[place]
            events = max(
                self.fuse.events_min, self.events[[Season.ALWAYS, Season.BOOTSTRAP, Season.FALLBACK].index(one.season)]
            )
            if hits[place] and self.hits[place] > (one.expected_rate or 0) * self.fuse.factor * events:
                self.until[place] = max(self.until[place], self.clock + self.fuse.cool_down_ms)
        return [self.clock < until for until in self.until]


@pytest.mark.parametrize("seed", range(12))
def test_fuses_are_what_one_event_at_a_time_makes_of_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rules = [fused("a", 0.02), fused("b", 0.2), fused("early", 0.05, Season.BOOTSTRAP), fused("never", 1.0)]
    fuse = Fuse(
        window_ms=1_000, factor=3.0, events_min=int(rng.integers(1, 40)), cool_down_ms=int(rng.integers(500, 5_000))
    )
    count = 600
    times = np.cumsum(rng.integers(-40, 60, count)).astype(np.int64) + 50_000
    rates = np.array([0.02, 0.3, 0.1, 0.9]) * rng.choice([0.3, 1, 6], 4)
    hits = rng.random((4, count)) < rates[:, None]
    hits[0, 200:260] |= rng.random(60) < 0.7  # a burst
    seasons = np.stack([np.ones(count, bool), rng.random(count) < 0.4, rng.random(count) < 0.1])
    naive, box, counts = Naive(rules, fuse), FuseBox(rules, fuse), FuseCounts.empty(4)
    start = 0
    blown_ever = False
    while start < count:
        end = start + int(rng.integers(1, 200))
        part = slice(start, end)
        found = box.count(counts, times[part], hits[:, part], seasons[:, part])
        expected = np.array(
            [
                naive.count(int(t), h.tolist(), s.tolist())
                for t, h, s in zip(times[part], hits[:, part].T, seasons[:, part].T, strict=True)
            ]
        ).T
        assert np.array_equal(expected, found if found is not None else np.zeros(expected.shape, bool))
        blown_ever |= bool(expected.any())
        start = end
    assert counts.hits.tolist() == naive.hits
    assert counts.events.tolist() == naive.events
    assert blown_ever


def test_many_quiet_windows_at_once_are_counted_like_one_after_the_other() -> None:
    rules, fuse = [fused("a", 0.5)], Fuse(window_ms=1_000, factor=2.0, events_min=50, cool_down_ms=1_000)
    rng = np.random.default_rng(1)
    times = np.sort(rng.integers(0, 60_000, 3_000)).astype(np.int64)
    hits, seasons = rng.random((1, 3_000)) < 0.3, np.ones((3, 3_000), bool)
    box, at_once, one_by_one = FuseBox(rules, fuse), FuseCounts.empty(1), FuseCounts.empty(1)
    assert box.count(at_once, times, hits, seasons) is None
    for place in range(3_000):
        assert (
            box.count(one_by_one, times[place : place + 1], hits[:, place : place + 1], seasons[:, place : place + 1])
            is None
        )
    assert (at_once.window, at_once.hits.tolist(), at_once.events.tolist(), at_once.clock_ms) == (
        one_by_one.window,
        one_by_one.hits.tolist(),
        one_by_one.events.tolist(),
        one_by_one.clock_ms,
    )


def test_a_days_reviews_are_shared_out_whole_and_fairly() -> None:
    for day in range(8):
        assert sum(share_of(13, partition, 8, day) for partition in range(8)) == 13
    over_days = {partition: sum(share_of(3, partition, 8, day) for day in range(8)) for partition in range(8)}
    assert set(over_days.values()) == {3}


def test_an_old_event_counts_into_a_day_that_is_still_kept() -> None:
    state = PartitionState()
    for day in (100, 101, 102):
        state.review(state.day_of(day * DAY_MS))
    assert state.reviews == {101: 1, 102: 1}
    state.review(state.day_of(7 * DAY_MS))
    assert state.reviews == {101: 2, 102: 1}


class Decided:
    """``decisions.v1`` in memory."""

    def __init__(self, records: list[InRecord]) -> None:
        self.records = records
        self.read_offsets = 0

    def ends(self, partition: int) -> tuple[int, int]:
        own = [record.offset for record in self.records if record.partition == partition]
        return (own[0], own[-1] + 1) if own else (0, 0)

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        found = [r for r in self.records if r.partition == partition and start <= r.offset < end]
        self.read_offsets += len(found)
        for at in range(0, len(found), 50):
            yield found[at : at + 50]


@pytest.mark.parametrize("stop", [0, 1, 499, 1_300, 2_600])
def test_after_a_restart_decisions_are_as_if_nothing_had_happened(stop: int) -> None:
    """Another process takes over anywhere in the log; the state that it finds is the one that was left."""
    records = scores(events(4_000))
    whole = decided(BUSY, cut(records, 83))
    shelf = Shelf()
    shelf.publish(BUSY)
    first = DecisionsHandler(shelf.desk(), PIN, shelf.telemetry, partitions=PARTITIONS)
    emits = [emit for batch in cut(records[:stop], 83) for emit in first.step(batch)]
    log = Decided(appended(emits))
    desk = shelf.desk()
    second = DecisionsHandler(desk, PIN, shelf.telemetry, "1", Restorer(log, desk.library.get), PARTITIONS)
    for partition in range(PARTITIONS):
        second.assign(partition, CommittedOffset(stop or None, ""), Marks())
    emits += [emit for batch in cut(records[stop:], 131) for emit in second.step(batch)]
    assert [record.value for record in appended(emits)] == [record.value for record in whole]


def test_the_state_travels_on_few_decisions_and_is_found_without_reading_the_log() -> None:
    records = scores([{**event, "customer_id": "c4"} for event in events(12_000)])
    found = decided(BUSY, cut(records, 100))
    carriers = [record for record in found if find(record.headers, POLICY_STATE)]
    assert len(carriers) == 12_000 // EVERY
    assert all(name in dict(carriers[0].headers) for name in (TRACEPARENT, POLICY_STATE))
    log, one = Decided(found), load_policy(BUSY, "busy.yaml", PIN.names)
    restored = Restorer(log, lambda version: one if version == one.version else None).state_of(0)
    assert log.read_offsets <= 2_000
    whole = PartitionState()
    follow(whole, [DECISION.decode(record.value) for record in found], lambda version: one)
    assert packed(restored, lambda version: one) == packed(whole, lambda version: one)
    assert unpacked(packed(whole, lambda _: one), lambda _: one).reviews == whole.reviews


def test_a_blown_fuse_hands_its_events_to_people_and_tells_somebody(caplog: pytest.LogCaptureFixture) -> None:
    text = BUSY.replace("per_day: 30, over_budget: challenge, ", "")
    shelf = Shelf()
    shelf.publish(text)
    handler = DecisionsHandler(shelf.desk(), PIN, shelf.telemetry, partitions=PARTITIONS)
    found = [DECISION.decode(emit.value) for batch in cut(scores(events(2_000)), 100) for emit in handler.step(batch)]
    blown = [decision for decision in found if "fuse_blown" in str(decision["reasons"])]
    assert blown
    for decision in blown:
        assert {"broad", "early", "burst"} & set(decision["rule_hits"])
        assert decision["action"] in ("review", "approve", "decline")  # chance and stricter rules have their say
    assert any(d["action"] == "review" and d["reasons"][0]["code"] == "fuse_blown" for d in blown)
    assert shelf.count("weir_fuses_blown_total") >= 1
    assert "fuse of rule broad blown" in caplog.text
    assert caplog.text.count("fuse of rule broad blown: policy p-") <= PARTITIONS * 3  # once, not once a batch


def test_a_new_version_starts_with_whole_fuses() -> None:
    shelf = Shelf()
    shelf.publish(BUSY)
    handler = DecisionsHandler(shelf.desk(), PIN, shelf.telemetry, partitions=PARTITIONS)
    records = scores(events(1_500))
    before = [DECISION.decode(emit.value) for emit in handler.step(records)]
    assert "fuse_blown" in str(before[-1]["reasons"]) + str(before[-40:])
    shelf.publish(f"# mended\n{BUSY}")
    handler.idle()
    # A single hit is within what `broad` may do in a window; `burst` may not hit once.
    one = next(
        record
        for record, decision in zip(records[::-1], before[::-1], strict=True)
        if "broad" in decision["rule_hits"] and "burst" not in decision["rule_hits"]
    )
    (again,) = [DECISION.decode(emit.value) for emit in handler.step([one])]
    assert again["policy_version"] == named(f"# mended\n{BUSY}")
    assert "Rule broad" not in str(again["reasons"])


def test_time_within_a_window_may_go_back() -> None:
    box = FuseBox([fused("a", 0.5)], Fuse(window_ms=HOUR_MS, factor=2, events_min=1, cool_down_ms=HOUR_MS))
    counts = FuseCounts.empty(1)
    times: Any = np.array([START_MS + HOUR_MS, START_MS, START_MS + HOUR_MS + 1], np.int64)
    box.count(counts, times, np.ones((1, 3), bool), np.ones((3, 3), bool))
    assert (counts.window, counts.events[0], counts.clock_ms) == (START_MS // HOUR_MS + 1, 3, START_MS + HOUR_MS + 1)


def test_a_fuse_is_whole_again_when_its_cool_down_has_passed_and_not_a_moment_before() -> None:
    box = FuseBox([fused("a", 0.5)], Fuse(window_ms=1_000, factor=2, events_min=1, cool_down_ms=5_000))
    counts = FuseCounts.empty(1)
    every = np.ones((3, 3), bool)
    # Two hits in one window of one event expected: the second is too much. Then quiet.
    found = box.count(counts, np.array([10_000, 10_000, 10_000]), np.array([[True, True, True]]), every[:, :1] & every)
    assert found is None  # as many hits as events are what twice its rate allows
    box = FuseBox([fused("a", 0.25)], Fuse(window_ms=1_000, factor=2, events_min=1, cool_down_ms=5_000))
    hits = np.array([[True, False, False]])
    blown = box.count(counts := FuseCounts.empty(1), np.array([10_000, 14_999, 15_000]), hits, every)
    assert blown is not None
    assert blown.tolist() == [[True, True, False]]
    assert counts.until_ms.tolist() == [15_000]
