"""Profiles and labels merge: order does not matter, repeats change nothing, holes are known."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.drift_world import BUDGET, MODEL, START_DAY, World, known_model, labels_of, profiles_of
from services.drift.comparing import cells_of
from services.drift.coverage import HOLES_MAX, Coverage
from services.drift.days import ALL, DAYS_KEPT, Days
from services.drift.labels import LabelBook
from services.mesh.reference import DAY_MS


def span(start: int, end: int, partition: int = 0) -> Any:
    return {"source_partition": partition, "from_offset": start, "to_offset": end}


@given(st.permutations(range(12)))
def test_stretches_in_any_order_are_one(order: list[int]) -> None:
    coverage = Coverage()
    for place in order:
        assert coverage.admit([span(10 * place, 10 * place + 10)])
        assert not coverage.admit([span(10 * place + 3, 10 * place + 4)]), "a part of it, once more"
    assert (coverage.counted, coverage.missing, coverage.repeats) == (120, 0, 12)


def test_a_hole_is_known_until_it_is_filled() -> None:
    coverage = Coverage()
    coverage.admit([span(0, 10), span(100, 150, partition=3)])
    coverage.admit([span(25, 30)])
    assert coverage.missing == 15
    assert coverage.admit([span(10, 25)])
    assert coverage.missing == 0


def test_a_profile_that_overlaps_in_one_partition_is_a_repeat_in_all() -> None:
    coverage = Coverage()
    coverage.admit([span(0, 10)])
    assert not coverage.admit([span(0, 10), span(0, 10, partition=1)])
    assert coverage.counted == 10


def test_holes_without_end_are_counted_in_constant_memory() -> None:
    coverage = Coverage()
    for number in range(10 * HOLES_MAX):
        coverage.admit([span(3 * number, 3 * number + 1)])
    assert coverage.missing == 2 * (10 * HOLES_MAX - 1)
    assert len(coverage._partitions[0].starts) == HOLES_MAX


@pytest.fixture(scope="module")
def profiles() -> list[Any]:
    world = World(1, 300)
    known = known_model(world)
    found: list[Any] = []
    offset = 0
    for number in range(START_DAY, START_DAY + 4):
        day = world.day(number)
        found += profiles_of(day, known, offset)
        offset += len(day.rows)
    return found


def merged(profiles: list[Any]) -> dict[str, Any]:
    days = Days()
    for profile in profiles:
        days.add(profile)
    found: dict[str, Any] = {}
    for stage, day in itertools.product(("scoring", "decisions", "ingestion"), range(START_DAY, START_DAY + 4)):
        tally = days.tally(stage, [day], cells_of(ALL))
        scores = tally.all_scores()
        found[f"{stage} {day}"] = (
            tally.records, [part.tolist() for part in tally.features], scores.counts.tolist(),
            scores.sums.round(9).tolist(), dict(tally.actions()), tally.values, tally.amounts.tolist(),
        )  # fmt: skip
    return found


def test_profiles_in_any_order_and_twice_are_the_same_days(profiles: list[Any]) -> None:
    expected = merged(profiles)
    shuffled = profiles * 2
    random.Random(4).shuffle(shuffled)
    assert merged(shuffled) == expected
    assert expected[f"scoring {START_DAY}"][0] == sum(c["records"] for c in profiles[0]["cells"])


def test_all_is_the_sum_over_segments(profiles: list[Any]) -> None:
    days = Days()
    for profile in profiles:
        days.add(profile)
    whole = days.tally("scoring", [START_DAY], cells_of(ALL))
    parts = [days.tally("scoring", [START_DAY], cells_of(s)) for s in days.segments("scoring", START_DAY)]
    assert len(parts) == 3
    for place, counts in enumerate(whole.features):
        assert counts.tolist() == sum(part.features[place] for part in parts).tolist()  # type: ignore[attr-defined]


def test_features_of_two_models_are_never_added(profiles: list[Any]) -> None:
    days = Days()
    days.add(profiles[0])
    cells = [{**cell, "model_version": "m-2"} for cell in profiles[0]["cells"]]
    days.add({**profiles[0], "cells": cells, "covered": [span(0, 5, partition=9)]})
    assert days.tally("scoring", [START_DAY], cells_of(ALL)).features == []
    assert days.tally("scoring", [START_DAY], cells_of(ALL, MODEL)).features


def test_days_are_forgotten_and_the_clock_is_the_slowest_stage(profiles: list[Any]) -> None:
    days = Days()
    for profile in profiles:
        days.add(profile)
    assert days.clock_ms() == min(days.newest_ms.values())
    late = [{**cell, "window_start_ms": (START_DAY + 100) * DAY_MS} for cell in profiles[0]["cells"]]
    days.add({**profiles[0], "cells": late, "covered": [span(0, 5, partition=9)]})
    assert days.first_day("scoring") == START_DAY + 100
    assert days.first_day("decisions") == START_DAY
    assert START_DAY + 100 - DAYS_KEPT > START_DAY + 4


def label(event: str, *, version: int = 1, fraud: bool = True, source: str = "chargeback", **more: Any) -> Any:
    return {
        "event_id": event, "customer_id": "c", "event_time_ms": START_DAY * DAY_MS, "score": 0.4, "model_version": "m",
        "label": "fraud" if fraud else "genuine", "label_version": version, "label_source": source,
        "observed_time_ms": START_DAY * DAY_MS + 5, "label_age_ms": 5, **more,
    }  # fmt: skip


def book_of(*labels: Any) -> LabelBook:
    book = LabelBook(BUDGET, 7 * DAY_MS)
    for one in labels:
        book.add(one)
    return book


def frauds(book: LabelBook) -> tuple[int, int]:
    worth = book.worth(START_DAY, START_DAY)
    assert worth.sums.sum() == pytest.approx(0.4 * worth.counts.sum())
    assert worth.fraud_sums.sum() == pytest.approx(0.4 * worth.frauds.sum())
    return int(worth.counts.sum()), int(worth.frauds.sum())


def test_the_latest_version_of_a_label_counts_whatever_the_order() -> None:
    versions = [label("e", version=1), label("e", version=2, fraud=False), label("e", version=3)]
    for order in itertools.permutations(versions):
        assert frauds(book_of(*order, *order)) == (1, 1)
    assert book_of(*versions, *versions).repeats == 3


def test_a_reversal_takes_back_and_the_top_follows() -> None:
    book = book_of(label("e", source="analyst"), label("e", version=2, fraud=False, source="customer"))
    assert frauds(book) == (1, 0)
    assert book.at_budget("reviewed", START_DAY, START_DAY)[:2] == (1, 0)


def test_what_had_matured_as_genuine_can_still_turn_out_fraud() -> None:
    late = {"label_age_ms": 9 * DAY_MS}
    book = book_of(label("e", version=0, fraud=False, source="matured", label_age_ms=7 * DAY_MS), label("e", **late))
    assert frauds(book) == (1, 1)


def test_the_highest_scores_of_a_day_are_kept_and_no_more() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(500)
    book = book_of(*(label(f"e{n}", score=float(s), source="analyst", fraud=s > 0.5) for n, s in enumerate(scores)))
    at = book.at_budget("reviewed", START_DAY, START_DAY)
    top = np.sort(scores)[-BUDGET:]
    assert (at.records, at.frauds) == (BUDGET, int((top > 0.5).sum()))
    assert at.expected == pytest.approx(top.sum())


def test_chargebacks_alone_are_no_population() -> None:
    assert book_of(label("e")).at_budget("reviewed", START_DAY, START_DAY).records == 0


def test_a_day_has_matured_when_nearly_all_of_it_is_labelled() -> None:
    book, day = book_of(), World(2, 200).day(START_DAY)
    morning, late = labels_of(day, START_DAY)
    labels, events = [*morning, *late], len(day.rows)
    for one in labels[: int(0.9 * events)]:
        book.add(one)
    assert not book.has_matured(START_DAY, events)
    for one in labels[int(0.9 * events) :]:
        book.add(one)
    assert book.has_matured(START_DAY, events)
    assert not book.has_matured(START_DAY + 1, 0)
