"""The flat walk knows what it knows, and hands everything else back to xgboost."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost
from trained import recorded, trained, vectors

from services.scoring.forest import Forest


def booster(trees: int = 5, **parameters: object) -> xgboost.Booster:
    data = recorded()
    matrix = xgboost.DMatrix(data.rows, data.label, nthread=1)
    shape: dict[str, object] = {} if parameters.get("booster") == "gblinear" else {"max_depth": 3}
    settings = {"objective": "binary:logistic", "base_score": 0.5, "nthread": 1} | shape | parameters
    return xgboost.train(settings, matrix, trees)


@pytest.mark.parametrize("depth", [1, 3, 6])
@pytest.mark.parametrize("policy", ["depthwise", "lossguide"])
def test_trees_of_any_shape_agree_to_the_bit(depth: int, policy: str) -> None:
    grown = booster(20, max_depth=depth, grow_policy=policy, tree_method="hist")
    rows = vectors(3)
    forest = Forest.of(grown, (0, 20))
    assert forest is not None
    assert forest.levels == depth
    assert np.array_equal(forest.margins(rows), grown.inplace_predict(rows, predict_type="margin"))


def test_only_the_trees_of_the_range_speak() -> None:
    grown = booster(20)
    rows = vectors(3)
    forest = Forest.of(grown, (3, 11))
    assert forest is not None
    expected = grown.inplace_predict(rows, predict_type="margin", iteration_range=(3, 11))
    assert np.array_equal(forest.margins(rows), expected)


def test_a_forest_of_bare_roots_says_the_same_to_everyone() -> None:
    grown = booster(3, gamma=1e9)
    rows = vectors(3, 7)
    forest = Forest.of(grown, (0, 3))
    assert forest is not None
    assert forest.levels == 0
    assert np.array_equal(forest.margins(rows), grown.inplace_predict(rows, predict_type="margin"))


@pytest.mark.parametrize(
    "parameters",
    [
        {"base_score": 0.1},
        {"booster": "dart"},
        {"booster": "gblinear"},
        {"num_parallel_tree": 2},
        {"objective": "reg:squarederror"},
    ],
)
def test_what_it_does_not_know_is_left_to_xgboost(parameters: dict[str, object]) -> None:
    assert Forest.of(booster(5, **parameters), (0, 5)) is None


def test_a_cycle_or_a_child_out_of_range_is_no_forest() -> None:
    from services.scoring.forest import _flatten

    tree = {"split_indices": [0, 0, 0], "split_conditions": [0.5, 1.0, 2.0], "split_type": [0, 0, 0]}
    good = tree | {"left_children": [1, -1, -1], "right_children": [2, -1, -1]}
    assert _flatten([good], 4) is not None  # type: ignore[list-item]
    for left, right in (([1, 0, -1], [2, 2, -1]), ([1, -1, -1], [3, -1, -1]), ([1, -1, -1], [-1, -1, -1])):
        assert _flatten([tree | {"left_children": left, "right_children": right}], 4) is None  # type: ignore[list-item]
    assert _flatten([good | {"split_indices": [4, 0, 0]}], 4) is None  # type: ignore[list-item]


def test_the_trainers_models_take_the_fast_path() -> None:
    bundle, manifest = trained()
    loaded = xgboost.Booster()
    loaded.load_model(bytearray(bundle.model))
    assert Forest.of(loaded, manifest.iteration_range) is not None
