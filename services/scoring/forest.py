"""A boosted forest as four flat arrays, walked by numpy: the fast path for one row or a few.

A call into xgboost costs 140 us before it looks at a tree; walking 100 trees of depth 3 here costs 10-20 us for one row
and stays ahead up to about a hundred rows. Both add the leaves in float32 in the order of the trees, so they agree to
the bit, which whoever loads a model checks before using this path (`Scorer`).
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import numpy.typing as npt
import orjson

from services.mesh.trees import xgboost

# A cycle in a damaged tree would never end; no forest worth serving within 0.4 ms is deeper.
LEVELS_MAX = 32


class _Tree(TypedDict):
    left_children: list[int]
    right_children: list[int]
    split_indices: list[int]
    split_conditions: list[float]
    split_type: list[int]


class Forest:
    """Trees ``iteration_range`` of a binary logistic booster; frozen once built."""

    __slots__ = ("_columns", "_next", "_roots", "_values", "levels", "trees")

    def __init__(
        self,
        roots: npt.NDArray[np.intp],
        columns: npt.NDArray[np.intp],
        values: npt.NDArray[np.float32],
        successors: npt.NDArray[np.intp],
        levels: int,
    ) -> None:
        # Node i compares column columns[i] with values[i] and goes on at successors[2 i + (column < value)].
        # A leaf holds its weight in values[i] and leads to itself, so that shallow trees wait for deep ones.
        for array in (roots, columns, values, successors):
            array.setflags(write=False)
        self._roots, self._columns, self._values, self._next = roots, columns, values, successors
        self.levels = levels
        self.trees = len(roots)

    @staticmethod
    def of(booster: xgboost.Booster, iteration_range: tuple[int, int]) -> Forest | None:
        """The forest of ``booster``; ``None`` where it holds what this walk does not know (the caller has xgboost)."""
        document = orjson.loads(bytes(booster.save_raw("json")))
        learner = document["learner"]
        model = learner["gradient_booster"].get("model")
        # Margins start at logit(base_score), which is zero for 0.5 alone; see retraining.train for why it is 0.5.
        zero_start = [float(p) for p in learner["learner_model_param"]["base_score"].strip("[]").split(",")] == [0.5]
        plain = learner["objective"]["name"] == "binary:logistic" and learner["gradient_booster"]["name"] == "gbtree"
        if model is None or not zero_start or not plain or model["gbtree_model_param"]["num_parallel_tree"] != "1":
            return None
        trees: list[_Tree] = model["trees"][slice(*iteration_range)]
        if any(any(tree["split_type"]) for tree in trees):
            return None
        return _flatten(trees, int(learner["learner_model_param"]["num_feature"]))

    def margins(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Log-odds. rows: float32, C-contiguous, shape (n, f), no NaN (NaN always goes right). Returns float32 (n,)."""
        cells = rows.ravel()
        starts = np.arange(0, cells.size, rows.shape[1], dtype=np.intp)[:, None]
        nodes = self._roots[None, :]
        for _ in range(self.levels):
            below = cells.take(self._columns.take(nodes) + starts) < self._values.take(nodes)
            nodes = self._next.take(2 * nodes + below)
        leaves = self._values.take(nodes)
        if leaves.shape[0] != rows.shape[0]:  # a forest of bare roots never met a row
            leaves = np.repeat(leaves, rows.shape[0], axis=0)
        # accumulate adds from left to right; sum() would add in pairs and differ in the last bit.
        margins: npt.NDArray[np.float32] = np.add.accumulate(leaves, axis=1)[:, -1]
        return margins


def _flatten(trees: list[_Tree], features: int) -> Forest | None:
    sizes = [len(tree["left_children"]) for tree in trees]
    offsets = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.intp)
    columns, values, successors = [], [], []
    for offset, size, tree in zip(offsets, sizes, trees, strict=True):
        left = np.array(tree["left_children"], dtype=np.intp)
        right = np.array(tree["right_children"], dtype=np.intp)
        column = np.array(tree["split_indices"], dtype=np.intp)
        leaf = left < 0
        inside = ~leaf & ((left >= size) | (right < 0) | (right >= size) | (column < 0) | (column >= features))
        if inside.any():
            return None
        here = np.arange(size, dtype=np.intp)
        columns.append(np.where(leaf, 0, column))
        values.append(np.array(tree["split_conditions"], dtype=np.float32))
        successors.append(np.stack([np.where(leaf, here, right), np.where(leaf, here, left)], axis=1) + offset)
    following = np.concatenate(successors)
    levels = _levels(offsets, following)
    if levels is None:
        return None
    return Forest(offsets, np.concatenate(columns), np.concatenate(values), following.ravel(), levels)


def _levels(roots: npt.NDArray[np.intp], following: npt.NDArray[np.intp]) -> int | None:
    """Steps until every path from every root stands on a leaf; ``None`` beyond `LEVELS_MAX`."""
    reached = roots
    for levels in range(LEVELS_MAX + 1):
        further = np.unique(following[reached])
        if np.array_equal(further, np.unique(reached)):
            return levels
        reached = further
    return None
