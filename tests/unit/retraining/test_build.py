"""From vectors and labels to a bundle that says truly what it is."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import orjson
import pytest
import xgboost
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from labelled import CUT_OFF_MS, DELAY_MS, HORIZON, HOUR_MS, NAMES, ROWS, recorded, taken

from services.mesh.bundle import verify
from services.mesh.bundle_parts import Bundle
from services.mesh.calibration import calibrated, flaw
from services.mesh.manifest import Manifest
from services.retraining.build import Identity, build
from services.retraining.dataset import Recorded, TrainingRefused, data_hash, split
from services.retraining.measures import average_precision
from services.retraining.train import Settings, fit, margins

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
IDENTITY = Identity(
    model_version="m1",
    feature_set="fs-1",
    feature_names=NAMES,
    fallback_feature_names=("is_night", "amount"),
    code_version="c0de",
)
SETTINGS = Settings(trees=30)


def built(data: Recorded, settings: Settings = SETTINGS) -> Bundle:
    return build(data, IDENTITY, CUT_OFF_MS, HORIZON, settings, KEY)


@cache
def bundle() -> Bundle:
    return built(recorded())


def manifest(of: Bundle | None = None) -> Manifest:
    return verify(of or bundle(), [KEY.public_key()], "fs-1", NAMES)


def test_the_manifest_says_what_was_learned_from() -> None:
    data, found = recorded(), manifest()
    whole = split(data, CUT_OFF_MS, HORIZON).whole
    assert found.data_hash == data_hash(data, whole, "fs-1")
    assert (found.rows, found.frauds) == (len(whole.index), int(whole.fraud.sum()))
    assert found.label_cut_off_ms == CUT_OFF_MS
    assert found.fallback_feature_indices == (1, 0)
    assert found.iteration_range == (0, 30)
    assert found.xgboost_version == xgboost.__version__
    assert found.parameters["max_bin"] == 8_192
    assert found.parameters["horizon_label_delay_ms"] == DELAY_MS
    assert found.parameters["horizon_genuine_after_ms"] == "never"


def test_the_same_data_in_any_order_gives_the_same_model_to_the_byte() -> None:
    shuffled = taken(recorded(), np.random.default_rng(5).permutation(ROWS))
    assert built(shuffled) == bundle()


def test_labels_and_events_after_their_moment_change_nothing() -> None:
    data = recorded()
    late = data.event_time_ms > CUT_OFF_MS - DELAY_MS
    rows, label = data.rows.copy(), data.label.copy()
    rows[late] *= 3
    label[late] = 1
    assert built(dataclasses.replace(data, rows=rows, label=label)) == bundle()


def test_the_validated_model_never_saw_the_validation_part_or_the_gap() -> None:
    """Its measures stay when the gap's vectors turn to nonsense; the serving model, which learns them, changes."""
    data = recorded()
    start = CUT_OFF_MS - DELAY_MS - HORIZON.validation_ms
    gap = (data.event_time_ms > start - DELAY_MS) & (data.event_time_ms <= start)
    assert gap.sum() == DELAY_MS // HOUR_MS
    rows = data.rows.copy()
    rows[gap] = -1
    other = built(dataclasses.replace(data, rows=rows))
    assert manifest(other).metrics == manifest().metrics
    assert manifest(other).calibration == manifest().calibration
    assert other.model != bundle().model


def test_it_learned_something_and_the_fallback_less() -> None:
    metrics = manifest().metrics
    share = metrics["validation_frauds"] / metrics["validation_rows"]
    assert metrics["average_precision"] > 3 * share
    assert 2 * share < metrics["fallback_average_precision"] < metrics["average_precision"]
    assert metrics["calibration_error"] < 0.02
    assert metrics["log_loss"] < -(share * np.log(share) + (1 - share) * np.log(1 - share))


def test_golden_rows_span_the_scores_and_try_missing_values() -> None:
    found = manifest()
    rows = found.golden.rows(len(NAMES))
    assert np.isnan(rows[-1]).all()
    assert not np.isnan(rows[:-1]).any()
    scores = np.array(found.golden.scores)
    assert (np.diff(scores[:-1]) >= 0).all()
    assert scores[0] < 0.02
    assert scores[-2] > 0.3
    assert np.array_equal(calibrated(found.calibration, margins(bundle().model, rows, (0, 30))), scores)
    spare = rows[:, list(found.fallback_feature_indices)]
    expected = calibrated(found.fallback_calibration, margins(bundle().fallback, spare, (0, 30)))
    assert np.array_equal(expected, np.array(found.golden.fallback_scores))


def test_calibration_is_increasing_into_zero_to_one() -> None:
    assert flaw(manifest().calibration) is None
    assert flaw(manifest().fallback_calibration) is None


def test_vectors_that_are_not_exact_teach_the_fallback_alone() -> None:
    data = recorded()
    rows, exact = data.rows.copy(), data.exact.copy()
    exact[::5] = False
    rows[::5, 2:] = -99  # what a stale or fallback vector holds there means nothing
    marked = built(dataclasses.replace(data, rows=rows, exact=exact))
    rows[::5, 2:] = 42
    assert built(dataclasses.replace(data, rows=rows, exact=exact)).model == marked.model
    assert marked.model != bundle().model
    assert marked.fallback == bundle().fallback


def test_too_little_data_builds_nothing() -> None:
    with pytest.raises(TrainingRefused):
        built(taken(recorded(), np.arange(500)))


def test_the_settings_are_those_that_rare_positives_need() -> None:
    booster = xgboost.Booster()
    booster.load_model(bytearray(bundle().model))
    learner = orjson.loads(bytes(booster.save_raw("json")))["learner"]
    assert float(learner["learner_model_param"]["base_score"].strip("[]")) == 0.5
    assert learner["objective"]["name"] == "binary:logistic"
    assert len(learner["gradient_booster"]["model"]["trees"]) == 30


def test_fine_bins_find_the_one_cut_that_a_rare_class_hangs_on() -> None:
    """0.13% of rows lie above one amount and all are fraud: 256 bins of 400 rows each cannot cut there."""
    rng = np.random.default_rng(4)
    amount = rng.lognormal(3, 1, (100_000, 1)).astype(np.float32)
    fraud = amount[:, 0] > np.quantile(amount, 0.9987)
    fine, coarse = (
        average_precision(
            margins(fit(amount, fraud, Settings(trees=20, bins_max=bins)), amount, (0, 20)).astype(np.float64), fraud
        )
        for bins in (Settings().bins_max, 256)
    )
    assert fine > 0.98
    assert coarse < 0.6


def changed(shift_hours: int) -> Recorded:
    """Before the shift large amounts are fraud, after it small ones: what was learned is wrong the other way round."""
    rng = np.random.default_rng(8)
    data = recorded()
    large = data.rows[:, 0] > np.quantile(data.rows[:, 0], 0.9)
    small = data.rows[:, 0] < np.quantile(data.rows[:, 0], 0.1)
    fraud = np.where(np.arange(ROWS) < shift_hours, large, small) & (rng.random(ROWS) < 0.6)
    return dataclasses.replace(data, label=fraud.astype(np.int8), held_out=rng.random(ROWS) < 0.5)


def test_when_fraud_has_changed_the_model_is_validated_by_customers_instead_of_by_time() -> None:
    data = changed(CUT_OFF_MS // HOUR_MS - 1_600)
    found = manifest(built(data)).metrics
    assert found["validated_by_customers"] == 1.0
    assert found["average_precision"] > 0.18, "three times what chance has"
    with pytest.raises(TrainingRefused, match="higher scores mean less fraud"):
        built(dataclasses.replace(data, held_out=np.zeros(ROWS, np.bool_)))
