"""The window of event time that may be in flight."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.simulator.flight import Flight


def test_an_empty_flight_allows_one_window_from_the_next_record_on() -> None:
    assert Flight(2, 100).limit_ms(1_000) == 1_100


def test_the_oldest_undecided_record_of_any_partition_sets_the_limit() -> None:
    flight = Flight(2, 100)
    first, second = flight.sent(0, [10, 20, 30]), flight.sent(1, [12, 40])
    flight.acknowledged(first, 7)
    flight.acknowledged(second, 0)
    assert flight.limit_ms(50) == 110
    flight.decided(0, 7)
    assert flight.limit_ms(50) == 112
    flight.decided(1, 0)
    assert flight.limit_ms(50) == 120
    flight.decided(0, 9)
    assert flight.limit_ms(50) == 120, "a later decision settles nothing before it"
    flight.decided(0, 8)
    assert flight.limit_ms(50) == 140
    assert flight.in_flight() == 2


def test_what_is_not_acknowledged_is_undecided() -> None:
    flight = Flight(1, 100)
    flight.sent(0, [10])
    flight.decided(0, 99)  # of an earlier run: offsets of ours are not known yet
    assert flight.limit_ms(50) == 110


def test_a_decision_seen_before_the_acknowledgement_counts_when_it_comes() -> None:
    flight = Flight(1, 100)
    batch = flight.sent(0, [10, 20])
    flight.decided(0, 5)
    flight.decided(0, 4)
    flight.acknowledged(batch, 4)
    assert flight.in_flight() == 0


def test_a_record_that_gets_no_decision_is_settled_when_a_barrier_has_passed_it() -> None:
    flight = Flight(1, 100)
    flight.acknowledged(flight.sent(0, [10, 20, 30]), 0)
    flight.decided(0, 2)
    assert flight.has_gaps()
    assert flight.limit_ms(50) == 110
    flight.passed(0, 2)
    assert flight.in_flight() == 0
    assert not flight.has_gaps()


def test_records_of_others_between_two_batches_hold_nothing_up() -> None:
    flight = Flight(1, 100)
    flight.acknowledged(flight.sent(0, [10]), 0)
    flight.acknowledged(flight.sent(0, [20]), 5)
    flight.decided(0, 0)
    flight.decided(0, 3)
    flight.decided(0, 5)
    assert flight.in_flight() == 0


def test_clearing_frees_what_no_decision_will_ever_come_for() -> None:
    flight = Flight(2, 100)
    flight.acknowledged(flight.sent(0, [10]), 0)
    flight.sent(1, [60])
    flight.clear()
    assert flight.in_flight() == 1, "not yet with the broker, so it may still be decided"
    assert flight.limit_ms(70) == 160


def test_an_old_decision_changes_nothing() -> None:
    flight = Flight(1, 100)
    flight.acknowledged(flight.sent(0, [10, 20]), 5)
    flight.decided(0, 5)
    flight.decided(0, 3)
    assert flight.limit_ms(50) == 120


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), max_size=80), st.randoms(use_true_random=False))
def test_event_time_in_flight_never_exceeds_the_window(records: list[tuple[int, int]], random: object) -> None:
    """However decisions come, a sender that obeys never has more than the window between newest and oldest."""
    flight, clock, offsets = Flight(4, 100), 0, [0] * 4
    undecided: list[tuple[int, int, int]] = []
    for partition, gap in records:
        clock += gap
        while clock > flight.limit_ms(clock):
            decided = undecided.pop(random.randrange(len(undecided)))  # type: ignore[attr-defined]
            flight.decided(decided[0], decided[1])
        flight.acknowledged(flight.sent(partition, [clock]), offsets[partition])
        undecided.append((partition, offsets[partition], clock))
        offsets[partition] += 1
        assert clock - min(time for _, _, time in undecided) <= 100
