"""The frozen reference: bins that any value falls into, counts that add up, and one spelling on the way."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.mesh.bins import SCORE_BINS, SCORE_EDGES, FeatureBins, quantile_edges, score_bins, score_sums
from services.mesh.reference import (
    Reference,
    ReferenceFlaw,
    feature_reference,
    from_plain,
    score_reference,
    spread_of,
    to_plain,
)

floats32 = st.floats(-1e6, 1e6, width=32) | st.just(float("nan")) | st.sampled_from([0.0, 1.0])


def reference() -> Reference:
    rng = np.random.default_rng(4)
    rows = rng.lognormal(2, 1, (4_000, 3)).astype(np.float32)
    rows[::7, 1] = np.nan
    rows[:, 2] = rng.random(4_000) < 0.3
    days = np.arange(4_000) // 400
    scores = rng.beta(1, 30, 4_000)
    features, _ = feature_reference(rows, days)
    return Reference(
        rows=4_000, days=10, features=features,
        scores=score_reference(scores, scores, rng.random(4_000) < scores, days),
        segments={"web": tuple(feature.counts for feature in features)}, actions={"approve": 3_990, "decline": 10},
    )  # fmt: skip


@given(arrays(np.float32, st.tuples(st.integers(1, 40), st.just(3)), elements=floats32))
def test_a_value_falls_into_the_bin_that_a_search_finds(rows: np.ndarray) -> None:
    edges = [quantile_edges(rows[:, column]) for column in range(3)]
    bins = FeatureBins([inner.tolist() for inner in edges])
    for column, counts in enumerate(bins.count(rows)):
        known = rows[:, column][~np.isnan(rows[:, column])]
        expected = np.bincount(np.searchsorted(edges[column], known, side="right"), minlength=len(edges[column]) + 1)
        assert counts.tolist() == [*expected.tolist(), len(rows) - len(known)]


def test_groups_are_counted_as_if_each_were_counted_alone() -> None:
    rng = np.random.default_rng(6)
    rows = rng.lognormal(2, 1, (20_000, 3)).astype(np.float32)
    rows[::9, 1] = np.nan
    bins = FeatureBins([quantile_edges(rows[:, column]).tolist() for column in range(3)])
    group = rng.integers(0, 4, len(rows))
    counts = bins.count_groups(rows, group, 5)
    assert [np.concatenate(bins.count(rows[group == n])).tolist() for n in range(5)] == counts.tolist()
    assert counts.sum() == rows.size


def test_what_training_saw_lies_between_the_guards() -> None:
    values = np.random.default_rng(1).lognormal(3, 2, 5_000).astype(np.float32)
    edges = quantile_edges(values)
    counts = FeatureBins([edges.tolist()]).count(values[:, None])[0]
    assert counts[0] == counts[-2] == counts[-1] == 0
    assert counts[1:-2].min() > 450, "deciles hold a tenth each"
    beyond = FeatureBins([edges.tolist()]).count(values[:, None] * np.float32(1e7))[0]
    assert beyond[-2] > 4_990


def test_scores_are_binned_by_log_odds_and_summed() -> None:
    scores = np.array([0.0, 1e-5, 0.5, 0.5, 1.0])
    counts, sums, variances = score_sums(scores)
    assert len(counts) == SCORE_BINS == len(SCORE_EDGES) + 1
    assert score_bins(scores).tolist() == [0, 0, 37, 37, SCORE_BINS - 1]
    assert counts.sum() == 5
    assert sums.sum() == pytest.approx(scores.sum())
    assert variances[37] == pytest.approx(0.5)


def test_days_that_differ_by_chance_have_no_spread_and_weekends_have() -> None:
    rng = np.random.default_rng(2)
    alike = rng.multinomial(2_000, [0.1] * 10, size=56)
    assert spread_of(alike).mean < 0.0005
    weekly = np.array([rng.multinomial(2_000, [0.9, 0.1] if day % 7 < 5 else [0.4, 0.6]) for day in range(56)])
    assert spread_of(weekly).mean > 0.2
    assert spread_of(weekly).variance > 0.02


def test_a_reference_survives_its_spelling() -> None:
    whole = reference()
    spelled = orjson.dumps(to_plain(whole))
    assert from_plain(orjson.loads(spelled)) == whole
    assert len(spelled) < 4_000, "a few kB"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("rows",), -1),
        (("features", 0, "counts"), [1, 2]),
        (("features", 0, "edges"), [2.0] * 11),
        (("scores", "validated_sums"), [0.5]),
        (("scores", "dispersion"), None),
        (("segments", "web"), [[1]]),
        (("actions", "approve"), 0.5),
    ],
)
def test_a_reference_out_of_shape_is_refused_with_its_place(path: tuple[object, ...], value: object) -> None:
    document = orjson.loads(orjson.dumps(to_plain(reference())))
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(ReferenceFlaw, match=r"^reference"):
        from_plain(document)
