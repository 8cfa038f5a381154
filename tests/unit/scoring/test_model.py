"""One vector, one score: whatever the batch, the path or the moment."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
import orjson
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from trained import NAMES, trained, vectors

from services.mesh.calibration import calibrated
from services.scoring.forest import Forest
from services.scoring.model import BootstrapScorer, Scorer


def scorer(version: str = "m1", seed: int = 1) -> Scorer:
    bundle, manifest = trained(version, seed)
    return Scorer(manifest, bundle.model, bundle.fallback)


def mask(rows: npt.NDArray[np.float32], fallback: bool = False) -> npt.NDArray[np.bool_]:
    return np.full(len(rows), fallback)


def by_public_api(model: bytes, rows: npt.NDArray[np.float32], trees: int) -> npt.NDArray[np.float32]:
    """Margins by the documented call, sharing nothing with the scorer."""
    booster = xgboost.Booster()
    booster.load_model(bytearray(model))
    matrix = xgboost.DMatrix(rows, nthread=1)
    margins: npt.NDArray[np.float32] = booster.predict(matrix, output_margin=True, iteration_range=(0, trees))
    return margins


def test_scores_equal_the_public_api_with_calibration_to_the_bit() -> None:
    bundle, manifest = trained()
    rows = vectors(5)
    expected = calibrated(manifest.calibration, by_public_api(bundle.model, rows, 40))
    assert np.array_equal(scorer().score(rows, mask(rows)), expected)
    spare = np.ascontiguousarray(rows[:, :2])
    expected = calibrated(manifest.fallback_calibration, by_public_api(bundle.fallback, spare, 40))
    assert np.array_equal(scorer().score(rows, mask(rows, True)), expected)


@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=12), seed=st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_the_score_of_a_row_is_the_same_in_every_batch(sizes: list[int], seed: int) -> None:
    model = scorer()
    rows = vectors(seed, sum(sizes))
    rows[::17, 2] = np.nan
    fallback = np.random.default_rng(seed).random(len(rows)) < 0.2
    whole = model.score(rows, fallback)
    cuts = np.cumsum(sizes)[:-1]
    parts = [model.score(r, m) for r, m in zip(np.split(rows, cuts), np.split(fallback, cuts), strict=True)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_both_paths_are_taken_and_agree_to_the_bit() -> None:
    trees = scorer()._model
    assert trees.forest is not None
    rows = vectors(9, 4_000)
    rows[:50] = np.array([[0, 0, 0, 0], [np.inf, -np.inf, 3.4e38, -3.4e38]] * 25, dtype=np.float32)
    assert np.array_equal(trees.forest.margins(rows), trees._margins_by_xgboost(rows))


def test_a_split_value_itself_goes_the_same_way_on_both_paths() -> None:
    trees = scorer()._model
    assert trees.forest is not None
    thresholds = trees.forest._values[np.abs(trees.forest._values) > 0]
    for column in range(len(NAMES)):
        rows = np.repeat(vectors(3, 1), len(thresholds), axis=0)
        rows[:, column] = thresholds
        assert np.array_equal(trees.forest.margins(rows), trees._margins_by_xgboost(rows))


def test_a_forest_that_disagrees_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Forest.margins
    monkeypatch.setattr(Forest, "margins", lambda self, rows: honest(self, rows) + np.float32(1e-6))
    loaded = scorer()
    assert loaded._model.forest is None
    rows = vectors(5, 3)
    monkeypatch.undo()
    assert np.array_equal(loaded.score(rows, mask(rows)), scorer().score(rows, mask(rows)))


def test_missing_values_take_the_default_way_of_every_split() -> None:
    bundle, manifest = trained()
    rows = vectors(8, 30)
    rows[np.arange(30), np.arange(30) % 4] = np.nan
    rows[0] = np.nan
    expected = calibrated(manifest.calibration, by_public_api(bundle.model, rows, 40))
    assert np.array_equal(scorer().score(rows, mask(rows)), expected)


def test_the_fallback_model_sees_the_event_alone() -> None:
    rows = vectors(2, 200)
    changed = rows.copy()
    changed[:, 2:] = np.nan
    model = scorer()
    assert np.array_equal(model.score(rows, mask(rows, True)), model.score(changed, mask(rows, True)))
    assert not np.array_equal(model.score(rows, mask(rows)), model.score(rows, mask(rows, True)))


def test_scores_are_probabilities_and_rise_with_the_margin() -> None:
    rows = vectors(6)
    model = scorer()
    scores = model.score(rows, mask(rows))
    assert scores.dtype == np.float64
    assert scores.min() >= 0
    assert scores.max() <= 1
    margins = model._model.margins(rows)
    order = np.argsort(margins, kind="stable")
    assert (np.diff(scores[order]) >= 0).all()
    assert len(np.unique(scores)) == len(np.unique(margins))


def test_an_empty_batch_has_no_scores() -> None:
    rows = vectors(1, 0)
    assert scorer().score(rows, mask(rows)).shape == (0,)
    assert BootstrapScorer(0.01, NAMES).score(rows, mask(rows)).shape == (0,)


@pytest.mark.parametrize("rows", [np.zeros((2, 3), np.float32), np.zeros((2, 4)), np.zeros(4, np.float32)])
def test_rows_of_another_shape_or_type_are_a_bug(rows: npt.NDArray[np.float32]) -> None:
    with pytest.raises(AssertionError):
        scorer().score(rows, np.zeros(2, np.bool_))


def test_one_thread_scores() -> None:
    model = scorer()
    rows = vectors(1, 3_000)
    before = threading_count()
    model.score(rows, mask(rows))
    model.contributions(rows[:200], mask(rows[:200]))
    assert threading_count() == before
    for trees in (model._model, model._fallback):
        assert orjson.loads(trees.booster.save_config())["learner"]["generic_param"]["nthread"] == "1"


def threading_count() -> int:
    """Native threads of this process; Python's own count does not see OpenMP's."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("Threads:"))


def test_a_swap_leaves_nothing_of_the_old_model_behind() -> None:
    rows = vectors(4, 300)
    alone = scorer("m2", seed=2).score(rows, mask(rows))
    in_force = scorer()
    first = in_force.score(rows, mask(rows))
    in_force = scorer("m2", seed=2)
    assert in_force.version == "m2"
    assert np.array_equal(in_force.score(rows, mask(rows)), alone)
    assert not np.array_equal(first, alone)
    in_force = scorer()
    assert np.array_equal(in_force.score(rows, mask(rows)), first)


def test_scoring_changes_nothing_in_the_model_or_the_rows() -> None:
    model = scorer()
    rows = vectors(4, 300)
    before, raw = rows.copy(), bytes(model._model.booster.save_raw("ubj"))
    threads = [threading.Thread(target=model.score, args=(rows, mask(rows))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    model.contributions(rows, mask(rows))
    assert np.array_equal(rows, before)
    assert bytes(model._model.booster.save_raw("ubj")) == raw
    assert model._model.forest is not None
    with pytest.raises(ValueError, match="read-only"):
        model._model.forest._values[0] = 1


def test_contributions_add_up_to_the_margin() -> None:
    model = scorer()
    rows = vectors(7, 300)
    fallback = np.arange(300) % 3 == 0
    parts = model.contributions(rows, fallback)
    assert parts.shape == (300, 5)
    margins = np.where(
        fallback,
        model._fallback.margins(np.ascontiguousarray(rows[:, :2])),
        model._model.margins(rows),
    )
    assert np.allclose(parts.sum(axis=1), margins, atol=1e-4)
    assert not parts[fallback, 2:4].any()


def test_contributions_bear_infinities() -> None:
    model = scorer()
    rows = np.array([[np.inf, 0, 1, -np.inf]], dtype=np.float32)
    assert np.allclose(model.contributions(rows, mask(rows)).sum(), model._model.margins(rows), atol=1e-4)


def test_bootstrap_gives_everybody_its_prior() -> None:
    rows = vectors(1, 3)
    bootstrap = BootstrapScorer(0.008, NAMES)
    assert bootstrap.version == "bootstrap"
    assert bootstrap.score(rows, mask(rows)).tolist() == [0.008] * 3
    assert not bootstrap.contributions(rows, mask(rows)).any()
