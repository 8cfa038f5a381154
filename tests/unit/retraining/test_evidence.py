"""Models compared block by block: on the same events, of one age, once."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from labelled_records import DAY_MS, PIN, START_MS, encoded, labelled
from sister_models import blocks

from services.retraining.evidence import BLOCK_MS, BLOCK_ROWS_MAX, Evidence, compare
from services.retraining.known import Known
from services.retraining.labels import WEIGHT_MAX, LabelReader, Labels

DELAY_MS = 7 * DAY_MS
READER = LabelReader(PIN, with_vectors=True)


class Model:
    """Says what its records say, and for the others the constant that it was made with."""

    def __init__(self, cut_off_ms: int = 0, says: float = 0.5) -> None:
        self.cut_off_ms = cut_off_ms
        self.says = says
        self.asked = 0

    def score(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        self.asked += len(rows)
        return np.full(len(rows), self.says)


BOTH = {"a": Model(), "b": Model()}


def read(*records: dict[str, Any]) -> Labels:
    return READER.read(encoded(*records))


def a_block(start_ms: int = START_MS, rows: int = 200, number: int = 0, **fields: Any) -> list[dict[str, Any]]:
    """One block in which b finds every fraud and a none."""
    return [
        labelled(
            n, start_ms + n * 1_000, fraud=n % 20 == 0, scores={"a": 0.01, "b": 0.9 if n % 20 == 0 else 0.01}, **fields
        )
        for n in range(rows)
    ]


def test_a_block_is_judged_when_all_of_it_has_the_age_and_only_then() -> None:
    evidence = Evidence(DELAY_MS)
    evidence.take(read(*a_block()))
    assert evidence.close(START_MS + BLOCK_MS + DELAY_MS, BOTH) == 0, "an outcome of that very age is on its way"
    assert evidence.close(START_MS + BLOCK_MS + DELAY_MS + 2 * 3_600_000, BOTH) == 1
    standing = evidence.standing("a", "b", START_MS)
    assert (standing.blocks, standing.rows, standing.frauds) == (1, 200, 10)
    assert standing.precision_a == pytest.approx(0.05)
    assert standing.precision_b == 1.0
    assert standing.log_wealth > 0 > standing.log_wealth_worse
    turned = evidence.standing("b", "a", START_MS)
    assert (turned.log_wealth, turned.log_wealth_worse) == (standing.log_wealth_worse, standing.log_wealth)


def test_labels_that_come_after_the_age_count_no_more() -> None:
    """Or the last word would be compared for old events and the first word for new ones."""
    evidence, late = Evidence(DELAY_MS), Evidence(DELAY_MS)
    evidence.take(read(*a_block()))
    late.take(read(*a_block()))
    late.take(read(*a_block(label_age_ms=DELAY_MS + 2 * 3_600_000, label_version=2, label="fraud")))
    for one in (evidence, late):
        one.close(START_MS + 30 * DAY_MS, BOTH)
    late.take(read(*a_block(label_version=3)))
    late.close(START_MS + 60 * DAY_MS, BOTH)
    assert late.standing("a", "b", 0) == evidence.standing("a", "b", 0)
    assert late.too_late == 400


def test_a_higher_version_replaces_and_a_lower_one_does_not() -> None:
    evidence = Evidence(DELAY_MS)
    evidence.take(read(*a_block(label_version=2)))
    evidence.take(read(*a_block(label_version=1, label="fraud")))
    evidence.close(START_MS + 30 * DAY_MS, BOTH)
    assert evidence.standing("a", "b", 0).frauds == 10


def test_events_are_compared_only_where_neither_model_can_have_learned_from_them() -> None:
    """All after both cut-offs; before them, back to one label delay, those of customers that are held out."""
    late = START_MS + BLOCK_MS
    for cut_off_ms, rows in (
        (START_MS - 1, 400),
        (late - 1, 200 + 100),
        (late + DAY_MS, 100 + 100),
        (late + DELAY_MS + DAY_MS, 0),
    ):
        evidence = Evidence(DELAY_MS)
        records = [
            record | {"split_bucket": 4_999 if n % 40 < 20 else 5_000}
            for n, record in enumerate([*a_block(), *a_block(late, number=1_000)])
        ]
        evidence.take(read(*records))
        evidence.close(START_MS + 30 * DAY_MS, {"a": Model(), "b": Model(cut_off_ms)})
        assert evidence.standing("a", "b", 0).rows == rows, cut_off_ms


def test_a_model_that_did_not_score_an_event_is_asked_when_it_is_judged() -> None:
    evidence, b = Evidence(DELAY_MS), Model(says=0.3)
    half = [record if n % 2 == 0 else record | {"challenger_scores": []} for n, record in enumerate(a_block())]
    evidence.take(read(*half))
    evidence.close(START_MS + 30 * DAY_MS, {"a": Model(), "b": b})
    assert (evidence.standing("a", "b", 0).rows, b.asked) == (200, 100)
    evidence.keep({"a"})
    assert evidence.standing("a", "b", 0).blocks == 0


def test_who_is_not_in_play_is_compared_no_more() -> None:
    evidence = Evidence(DELAY_MS)
    evidence.take(read(*a_block()))
    evidence.close(START_MS + 30 * DAY_MS, {"a": Model()})
    assert evidence.standing("a", "b", 0).blocks == 0


def test_stale_vectors_and_other_feature_sets_are_left_out_and_counted() -> None:
    evidence = Evidence(DELAY_MS)
    evidence.take(read(*a_block(feature_status="stale")))
    other = read(*a_block(feature_set="another"))
    assert (len(other), other.foreign) == (0, 200)
    evidence.close(START_MS + 30 * DAY_MS, BOTH)
    assert evidence.standing("a", "b", 0).blocks == 0


def test_a_flood_of_labels_is_thinned_by_identity() -> None:
    evidence = Evidence(DELAY_MS)
    scores = {"a": 0.1, "b": 0.2}
    one = read(*(labelled(n, START_MS, fraud=n % 50 == 0, scores=scores) for n in range(2_000)))
    rng = np.random.default_rng(1)
    for _ in range(30):
        evidence.take(dataclasses.replace(one, identity=rng.integers(0, 2**63, 2_000).astype(np.uint64)))
    assert evidence.open_rows <= BLOCK_ROWS_MAX


def test_chance_that_let_a_payment_through_gives_it_its_weight() -> None:
    record = labelled(1, START_MS, fraud=True, scores={"a": 0.1}, propensity=0.05)
    assert read(record).weight.tolist() == [pytest.approx(20.0)]
    assert read(record | {"propensity": 1e-9}).weight.tolist() == [WEIGHT_MAX]
    fraud = np.array([True, False, False, True])
    scores = np.array([0.9, 0.8, 0.2, 0.1])
    weight, segment = np.array([1.0, 3.0, 1.0, 2.0]), np.zeros(4, dtype=np.int64)
    whole = np.repeat(np.arange(4), weight.astype(int))
    weighted = compare(0, scores, scores, fraud, weight, segment)
    repeated = compare(0, scores[whole], scores[whole], fraud[whole], np.ones(7), np.zeros(7, dtype=np.int64))
    assert weighted.precision_a == pytest.approx(repeated.precision_a)
    assert weighted.skill_a == pytest.approx(repeated.skill_a)


def test_repeats_are_dropped_and_labels_counted_once() -> None:
    known = Known(DELAY_MS)
    records = a_block()
    assert known.take(read(*records)).all()
    assert not known.take(read(*records)).any()
    assert known.repeats == 200
    counts = known.counts(0)
    assert (counts.rows, counts.frauds) == (200, 10)
    assert counts.oldest_ms == START_MS
    reversed_ = known.take(read(*(r | {"label_version": 2, "label": "genuine"} for r in records)))
    assert reversed_.all()
    assert known.counts(0).frauds == 0, "a reversal takes the fraud back"
    young = Known(DELAY_MS)
    young.take(read(*a_block(label_age_ms=DAY_MS)))
    assert young.counts(0).rows == 0, "observed early is not matured"


def test_damage_is_counted_and_harms_no_neighbour() -> None:
    values = encoded(*a_block(rows=3))
    found = READER.read([values[0], b"junk", values[1][:-1], values[2]])
    assert (len(found), found.damaged) == (2, 2)


def test_two_sister_models_differ_about_as_the_prior_of_the_scale_says() -> None:
    found = blocks(np.random.default_rng(3), 30, 0.8, 0.8)
    assert 0.01 < float(np.std([b.precision_b - b.precision_a for b in found])) < 0.1
