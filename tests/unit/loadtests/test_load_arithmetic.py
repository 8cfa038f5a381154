"""The load tests' own arithmetic: what they conclude from numbers, without measuring anything."""

from __future__ import annotations

import pytest

from loadtests.backlog import backlog, growth_per_s, keeps_up
from loadtests.bare_hop import HOPS, CopyHandler, bare_stage, bare_topic, read_bare, resized
from loadtests.payloads import event_id, number_of, payments
from loadtests.recovery import level_before, recovered_after_s
from loadtests.timing import Latencies, Windows, histogram_of, merged, percentiles_ms
from loadtests.verdict import CPU_US_MAX, Target, read_budgets, targets
from services.mesh.json_fields import json_fields
from services.mesh.ports import InRecord
from services.mesh.topology import EVENT_CHAIN


def test_every_record_of_a_run_says_its_place_and_no_other_run_is_taken_for_it() -> None:
    assert number_of(event_id("r1", 42).encode(), b"r1") == 42
    assert number_of(event_id("r11", 42).encode(), b"r1") is None
    assert number_of(b"w1-3-17", b"r1") is None


def test_a_run_goes_on_where_the_one_before_it_ended() -> None:
    whole = payments("a", 3_000, (0, 0), 1, customers=300)
    first = payments("a", 1_100, (0, 0), 1, customers=300)
    rest = payments("a", 1_900, first.next_place, 1, customers=300)
    times = [json_fields(value)["event_time_ms"] for value in whole.values]
    assert len(whole.values) == 3_000
    assert first.keys + rest.keys == whole.keys
    assert [json_fields(value)["event_time_ms"] for value in first.values + rest.values] == times
    assert rest.next_place == whole.next_place
    assert [json_fields(value)["event_id"] for value in whole.values[:2]] == ["a-000000000", "a-000000001"]


def test_a_backlog_that_stands_still_keeps_up_and_one_that_grows_does_not() -> None:
    steady = [(t / 2, max(0, t * 500 - 200)) for t in range(1, 41)]
    assert keeps_up(steady, rate=1_000, total=20_000, skip_s=2)
    slower = [(t / 2, int(t * 480)) for t in range(1, 41)]
    assert growth_per_s(backlog(slower, 1_000, 20_000)) == pytest.approx(40, rel=0.05)
    assert not keeps_up(slower, rate=1_000, total=20_000, skip_s=2)


def test_a_chain_that_stands_still_far_behind_does_not_keep_up() -> None:
    far_behind = [(t / 2, max(0, t * 500 - 3_000)) for t in range(8, 41)]
    assert not keeps_up(far_behind, rate=1_000, total=20_000, skip_s=5)


def test_nothing_seen_is_not_keeping_up() -> None:
    assert not keeps_up([], rate=1_000, total=20_000, skip_s=2)


def test_percentiles_are_those_of_all_merged_rounds() -> None:
    quick, slow = Latencies(), Latencies()
    for _ in range(990):
        quick.add(0.010)
    for _ in range(10):
        slow.add(0.500)
    found = percentiles_ms(merged([quick.histogram().encode(), slow.histogram().encode()]))
    assert found["p50"] == pytest.approx(10, rel=0.01)
    assert found["p999"] == pytest.approx(500, rel=0.01)
    assert found["max"] == pytest.approx(500, rel=0.01)


def test_a_clock_that_stepped_back_is_counted_as_the_smallest_latency() -> None:
    assert percentiles_ms(histogram_of({-5: 1}))["max"] == 0.1


def test_windows_are_of_sending_time() -> None:
    windows = Windows()
    windows.add(0.1, 0.010)
    windows.add(0.7, 2.0)
    assert [(begin, count) for begin, count, _, _ in windows.rows()] == [(0.0, 1), (0.5, 1)]


def test_recovery_is_counted_from_the_kill_to_lasting_calm() -> None:
    usual, bad = 100.0, 900.0
    p99s = [usual] * 20 + [bad] * 6 + [usual] + [bad] + [usual] * 20
    windows = [(place * 0.5, 500, p99, p99) for place, p99 in enumerate(p99s)]
    assert level_before(windows, 3.0, 10.0) == usual
    # Calm begins at 14.0: the single good half second at 13.0 is followed by a bad one.
    assert recovered_after_s(windows, 10.0, 2 * usual) == pytest.approx(4.0)


def test_what_never_calms_down_has_not_recovered() -> None:
    windows = [(place * 0.5, 500, 100.0 if place < 20 else 300.0, 400.0) for place in range(60)]
    assert recovered_after_s(windows, 10.0, 200.0) is None


def test_there_is_one_bare_hop_for_every_stage_and_they_form_a_chain() -> None:
    assert len(EVENT_CHAIN) == HOPS
    for number in range(1, HOPS):
        assert bare_stage(number).produces == (bare_stage(number + 1).consumes,)
    assert [bare_stage(number).marked for number in range(1, HOPS + 1)] == [stage.marked for stage in EVENT_CHAIN]


def test_the_bare_chain_carries_id_and_append_time_to_its_end_in_the_sizes_asked_for() -> None:
    value = payments("r7", 1, (0, 0), 1, customers=50).values[0]
    record = InRecord(bare_topic(0).name, 3, 9, 1_700_000_000_123, b"c1", value, ())
    for number, size in enumerate((78, 140, 210, 240, 380), 1):
        emit = CopyHandler(number, size).step([record])[0]
        assert emit.value is not None
        assert emit.key == b"c1"
        assert len(emit.value) == size
        record = InRecord(bare_topic(number).name, 3, 9, 1_700_000_000_999, emit.key, emit.value, ())
    assert record.value is not None
    assert read_bare(record.value) == (b"r7-000000000", 1_700_000_000_123)


def test_values_are_cut_or_filled_to_size() -> None:
    assert resized(b"abcdef", 3) == b"abc"
    assert resized(b"abc", 5) == b"abc\x00\x00"


def test_each_stage_has_a_budget_and_together_they_are_the_promise() -> None:
    budgets = read_budgets()
    assert list(budgets) == [stage.name for stage in EVENT_CHAIN]
    assert sum(budgets.values()) == CPU_US_MAX


def test_targets_are_missed_on_the_right_side() -> None:
    good = targets(sustained_per_s=4_000, p99_ratio=1.5, throughput_ratio=0.4, mesh_cpu_us=200)
    bad = targets(sustained_per_s=3_999, p99_ratio=1.51, throughput_ratio=0.39, mesh_cpu_us=201)
    assert [target.is_met for target in good] == [True] * 4
    assert [target.is_met for target in bad] == [False] * 4
    assert Target("x", 2, "<=", 1, 0.5).line() == "MISSED x: 2.00 (<= 1, stretch 0.5)"
