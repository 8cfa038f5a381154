"""What else a better challenger must be."""

from __future__ import annotations

import dataclasses

import pytest

from services.retraining.evidence import Standing
from services.retraining.gates import before_canary, before_shadow
from services.retraining.settings import Rules

RULES = Rules(feature_set="fs-1")
MEASURES = {
    "average_precision": 0.7,
    "validation_rows": 5_000.0,
    "validation_frauds": 50.0,
    "champion_average_precision_unseen": 0.72,
    "low_half_fraud_share": 0.001,
    "score_ms": 1.0,
}
STANDING = Standing(blocks=9, rows=9_000, frauds=90, expected_per_fraud_a=1.0, expected_per_fraud_b=1.1,
                    segment_frauds=(40, 40, 10), segment_gain=(0.0, -0.01, -0.9))  # fmt: skip


def test_a_good_bundle_passes_and_the_first_one_has_nobody_to_be_compared_with() -> None:
    assert before_shadow(MEASURES, "fs-1", "fs-1", RULES) == []
    first = {name: value for name, value in MEASURES.items() if not name.endswith("unseen")}
    assert before_shadow(first, "fs-1", "fs-1", RULES) == []


@pytest.mark.parametrize(
    ("measures", "feature_set", "why"),
    [
        ({}, "fs-2", "trained on feature set fs-2, fs-1 is served"),
        ({"low_half_fraud_share": 0.05}, "fs-1", "labels: 5.0% of the half of the validation"),
        (
            {"average_precision": 0.019},
            "fs-1",
            "average precision 0.019 on the validation, where chance has 0.010",
        ),
        ({"score_ms": 9.0}, "fs-1", "latency: 128 rows took 9.0 ms"),
    ],
)
def test_a_bundle_is_refused_with_the_reason(measures: dict[str, float], feature_set: str, why: str) -> None:
    (found,) = before_shadow(MEASURES | measures, feature_set, "fs-1", RULES)
    assert why in found


def test_a_calibrated_challenger_that_hurts_nobody_passes() -> None:
    assert before_canary(STANDING, RULES) == [], "ten frauds in a segment say nothing yet"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"frauds": 19}, "19 labelled frauds since it runs beside, 20 are needed"),
        ({"expected_per_fraud_b": 2.1}, "calibration: it expects 2.10 frauds for each"),
        ({"expected_per_fraud_b": 0.4}, "calibration: it expects 0.40 frauds for each"),
        ({"expected_per_fraud_b": 0.0}, "calibration"),
        ({"segment_gain": (0.0, -0.06, 0.0)}, "segment middle: 0.060 of Brier lost per fraud, over 40 frauds"),
    ],
)
def test_a_challenger_waits_with_the_reason(fields: dict[str, object], why: str) -> None:
    (found,) = before_canary(dataclasses.replace(STANDING, **fields), RULES)  # type: ignore[arg-type]
    assert why in found


def test_off_but_no_further_off_than_the_champion_is_no_reason_to_keep_the_champion() -> None:
    off = dataclasses.replace(STANDING, expected_per_fraud_a=5.0, expected_per_fraud_b=4.0)
    assert before_canary(off, RULES) == []
