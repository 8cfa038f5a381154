"""Nothing is learned from that was not known, and what was known is found in one way only."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import CUT_OFF_MS, DELAY_MS, HORIZON, HOUR_MS, ROWS, recorded, taken

from services.mesh.errors import Fatal
from services.retraining.dataset import (
    FRAUD,
    GENUINE,
    UNKNOWN,
    Horizon,
    Part,
    Recorded,
    TrainingRefused,
    data_hash,
    join,
    labels_as_of,
    split,
)

DAY_MS = 24 * HOUR_MS


def events(*rows: tuple[int, int, int]) -> Recorded:
    """(event day, label, observed day) each."""
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return Recorded(
        rows=np.zeros((len(table), 2), np.float32),
        event_time_ms=table[:, 0] * DAY_MS,
        label=table[:, 1].astype(np.int8),
        observed_ms=table[:, 2] * DAY_MS,
        exact=np.ones(len(table), np.bool_),
        weight=np.ones(len(table), np.float32),
        held_out=np.zeros(len(table), np.bool_),
    )


def test_a_label_counts_from_the_moment_it_is_observed() -> None:
    data = events((0, FRAUD, 5), (0, GENUINE, 6))
    assert labels_as_of(data, 5 * DAY_MS - 1, None).tolist() == [UNKNOWN, UNKNOWN]
    assert labels_as_of(data, 5 * DAY_MS, None).tolist() == [FRAUD, UNKNOWN]
    assert labels_as_of(data, 6 * DAY_MS, None).tolist() == [FRAUD, GENUINE]


def test_without_outcome_an_event_is_unknown_until_maturity_says_genuine() -> None:
    data = events((0, UNKNOWN, 0), (3, UNKNOWN, 0))
    assert labels_as_of(data, 100 * DAY_MS, None).tolist() == [UNKNOWN, UNKNOWN]
    assert labels_as_of(data, 7 * DAY_MS - 1, 7 * DAY_MS).tolist() == [UNKNOWN, UNKNOWN]
    assert labels_as_of(data, 7 * DAY_MS, 7 * DAY_MS).tolist() == [GENUINE, UNKNOWN]
    assert labels_as_of(data, 10 * DAY_MS, 7 * DAY_MS).tolist() == [GENUINE, GENUINE]


def test_a_fraud_reported_after_maturity_was_genuine_until_then() -> None:
    data = events((0, FRAUD, 9))
    assert labels_as_of(data, 8 * DAY_MS, 7 * DAY_MS).tolist() == [GENUINE]
    assert labels_as_of(data, 9 * DAY_MS, 7 * DAY_MS).tolist() == [FRAUD]


def test_the_split_leaves_the_label_delay_out_on_both_sides() -> None:
    data = recorded()
    parts = split(data, CUT_OFF_MS, HORIZON)
    train, validation, whole = (data.event_time_ms[p.index] for p in (parts.train, parts.validation, parts.whole))
    start = CUT_OFF_MS - DELAY_MS - HORIZON.validation_ms
    assert parts.validation_start_ms == start
    assert (train.min(), train.max()) == (0, start - DELAY_MS)
    assert (validation.min(), validation.max()) == (start + HOUR_MS, CUT_OFF_MS - DELAY_MS)
    assert (whole.min(), whole.max()) == (0, CUT_OFF_MS - DELAY_MS), "nobody has observed anything younger"


@given(
    cut_off_h=st.integers(2_600, ROWS + 500),
    delay_h=st.integers(0, 200),
    validation_h=st.integers(900, 1_200),
    late_h=st.integers(0, 400),
    genuine_after_h=st.one_of(st.none(), st.integers(0, 300)),
)
@settings(max_examples=60, deadline=None)
def test_what_was_not_known_at_the_cut_off_changes_nothing(
    cut_off_h: int, delay_h: int, validation_h: int, late_h: int, genuine_after_h: int | None
) -> None:
    """Rewrite everything after each moment of knowledge: the cohort of that moment stays the same."""
    rng = np.random.default_rng(late_h)
    data = recorded()
    data = dataclasses.replace(data, observed_ms=data.event_time_ms + rng.integers(0, late_h + 1, ROWS) * HOUR_MS)
    horizon = Horizon(
        label_delay_ms=delay_h * HOUR_MS,
        validation_ms=validation_h * HOUR_MS,
        genuine_after_ms=None if genuine_after_h is None else genuine_after_h * HOUR_MS,
        rows_min=100,
        frauds_min=3,
    )
    cut_off_ms = cut_off_h * HOUR_MS
    parts = split(data, cut_off_ms, horizon)
    for name, now_ms in (("train", parts.validation_start_ms), ("whole", cut_off_ms)):
        later = data.observed_ms > now_ms
        other = dataclasses.replace(data, label=np.where(later, 1 - data.label, data.label).astype(np.int8))
        again, part = getattr(split(other, cut_off_ms, horizon), name), getattr(parts, name)
        assert np.array_equal(again.index, part.index)
        assert np.array_equal(again.fraud, part.fraud)
        assert (data.event_time_ms[part.index] <= now_ms).all()


def test_young_events_are_learned_from_where_a_reviewer_has_spoken_and_never_judged_by() -> None:
    data = recorded()
    reviewed = np.arange(ROWS) % 5 == 0
    data = dataclasses.replace(data, observed_ms=np.where(reviewed, data.event_time_ms, data.observed_ms))
    parts = split(data, CUT_OFF_MS, HORIZON)
    young = parts.whole.index[data.event_time_ms[parts.whole.index] > CUT_OFF_MS - DELAY_MS]
    assert len(young)
    assert reviewed[young].all(), "who is young and unobserved is unknown, never genuine"
    assert data.event_time_ms[parts.validation.index].max() == CUT_OFF_MS - DELAY_MS
    assert data.event_time_ms[parts.train.index].max() <= parts.validation_start_ms


def remembering(learn_h: int, frauds: int) -> Horizon:
    """The horizon of these tests with a shorter memory."""
    return dataclasses.replace(HORIZON, learn_ms=learn_h * HOUR_MS, learn_frauds=frauds)


def test_learned_from_are_the_last_weeks_before_each_moment() -> None:
    data, learn_h = recorded(), 2_000
    parts = split(data, CUT_OFF_MS, remembering(learn_h, frauds=0))
    for part, now_ms in ((parts.train, parts.validation_start_ms), (parts.whole, CUT_OFF_MS)):
        times = data.event_time_ms[part.index]
        assert len(times) == learn_h
        assert times.min() == now_ms - DELAY_MS - (learn_h - 1) * HOUR_MS
        assert times.max() == now_ms - DELAY_MS


def test_the_memory_is_counted_behind_the_label_delay_and_young_observed_events_come_on_top() -> None:
    data = recorded()
    observed_ms = np.where(np.arange(ROWS) % 5 == 0, data.event_time_ms, data.observed_ms)
    parts = split(dataclasses.replace(data, observed_ms=observed_ms), CUT_OFF_MS, remembering(2_000, frauds=0))
    times = data.event_time_ms[parts.whole.index]
    assert (times <= CUT_OFF_MS - DELAY_MS).sum() == 2_000
    assert (times > CUT_OFF_MS - DELAY_MS).sum() == len(range(ROWS - 20, ROWS, 5)), "20, 15, 10 and 5 hours old"


def test_where_fraud_is_rare_the_memory_is_longer() -> None:
    data = recorded()
    parts = split(data, CUT_OFF_MS, remembering(1, frauds=150))
    for part in (parts.train, parts.whole):
        assert int(part.fraud.sum()) == 150
        assert part.fraud[0], "it begins with the fraud that makes them enough"
    few = split(data, CUT_OFF_MS, remembering(1, frauds=ROWS))
    assert data.event_time_ms[few.whole.index].min() == 0, "too few in all: everything is learned from"


def test_what_is_judged_by_is_never_cut() -> None:
    long, short = (split(recorded(), CUT_OFF_MS, remembering(hours, frauds=0)) for hours in (ROWS, 1))
    assert np.array_equal(short.validation.index, long.validation.index)


def test_unknown_events_are_in_no_part() -> None:
    data = recorded()
    label = data.label.copy()
    label[::3] = UNKNOWN
    parts = split(dataclasses.replace(data, label=label), CUT_OFF_MS, HORIZON)
    for part in (parts.train, parts.validation, parts.whole):
        assert (part.index % 3 != 0).all()


@pytest.mark.parametrize(
    ("data", "cut_off_ms", "words"),
    [
        (recorded(), 100 * HOUR_MS, "train part has 0 labelled rows and 0 frauds"),
        (dataclasses.replace(recorded(), label=np.zeros(ROWS, np.int8)), CUT_OFF_MS, "0 frauds"),
        (dataclasses.replace(recorded(), label=np.ones(ROWS, np.int8)), CUT_OFF_MS, "all are fraud"),
        (dataclasses.replace(recorded(), exact=np.zeros(ROWS, np.bool_)), CUT_OFF_MS, "0 labelled rows"),
        (taken(recorded(), np.zeros(0, np.intp)), CUT_OFF_MS, "0 labelled rows"),
    ],
    ids=["too early", "no fraud", "only fraud", "no exact vector", "nothing"],
)
def test_too_little_to_learn_from_is_refused_with_the_numbers(data: Recorded, cut_off_ms: int, words: str) -> None:
    with pytest.raises(TrainingRefused, match=words):
        split(data, cut_off_ms, HORIZON)


@pytest.mark.parametrize(
    "field",
    ["label_delay_ms", "validation_ms", "rows_min", "frauds_min", "genuine_after_ms", "learn_ms", "learn_frauds"],
)
def test_an_impossible_horizon_is_named(field: str) -> None:
    with pytest.raises(Fatal, match=field):
        dataclasses.replace(HORIZON, **{field: -1})


def test_a_vector_that_is_not_finite_is_refused_with_its_place() -> None:
    data = recorded()
    rows = data.rows.copy()
    rows[17, 2] = np.inf
    with pytest.raises(TrainingRefused, match=r"rows\[17, 2\]=inf"):
        dataclasses.replace(data, rows=rows)


def test_join_gives_the_last_label_and_counts_orphans() -> None:
    joined = join(
        ["c1/e1", "c1/e2", "c2/e1"],
        ["c1/e1", "c2/e1", "c1/e1", "c9/e9", "c2/e1"],
        np.array([True, True, False, True, False]),
        np.array([10, 50, 20, 5, 50]),
    )
    assert joined.label.tolist() == [GENUINE, UNKNOWN, GENUINE]
    assert joined.observed_ms[[0, 2]].tolist() == [20, 50]
    assert joined.orphans == 1


def test_a_label_that_arrives_out_of_order_does_not_win() -> None:
    joined = join(["e"], ["e", "e"], np.array([False, True]), np.array([20, 10]))
    assert joined.label.tolist() == [GENUINE]


def test_a_repeated_vector_is_refused() -> None:
    with pytest.raises(TrainingRefused, match="1 vectors repeat an event"):
        join(["e", "e"], [], np.zeros(0, np.bool_), np.zeros(0, np.int64))


def everything(data: Recorded) -> Part:
    return Part(index=np.arange(len(data.rows)), fraud=data.label == FRAUD)


def test_the_data_hash_does_not_depend_on_the_order_of_arrival() -> None:
    data = recorded()
    # Ties in time, so that the order has to come from the content.
    data = dataclasses.replace(data, event_time_ms=data.event_time_ms // (50 * HOUR_MS))
    rows = data.rows.copy()
    rows[::7, 1] = np.nan
    data = dataclasses.replace(data, rows=rows)
    shuffled = taken(data, np.random.default_rng(3).permutation(ROWS))
    assert data_hash(shuffled, everything(shuffled), "fs") == data_hash(data, everything(data), "fs")


def test_the_data_hash_is_fixed_for_ever() -> None:
    data = events((0, FRAUD, 5), (1, GENUINE, 6))
    expected = "4728d992cfd077d35055c18d5d6271241e3fe9716df795d51842f478607f68e1"
    assert data_hash(data, everything(data), "fs") == expected


def test_any_change_of_the_data_changes_the_hash() -> None:
    data = recorded()
    before = data_hash(data, everything(data), "fs")
    rows, time_ms = data.rows.copy(), data.event_time_ms.copy()
    label, exact = data.label.copy(), data.exact.copy()
    rows[5, 3] = np.nextafter(rows[5, 3], np.float32(1))
    time_ms[5] += 1
    label[5] = 1 - label[5]
    exact[5] = False
    weight = data.weight.copy()
    weight[5] = 20.0
    others = (
        dataclasses.replace(data, weight=weight),
        dataclasses.replace(data, rows=rows),
        dataclasses.replace(data, event_time_ms=time_ms),
        dataclasses.replace(data, label=label),
        dataclasses.replace(data, exact=exact),
    )
    hashes = [data_hash(other, everything(other), "fs") for other in others]
    shorter = taken(data, np.arange(ROWS - 1))
    hashes += [data_hash(data, everything(data), "fs2"), data_hash(shorter, everything(shorter), "fs"), before]
    assert len(set(hashes)) == len(hashes)
