"""Where counters put a number: frozen bins, the same for whoever counts and whoever compares.

A feature's bins come from the training rows of a model and never move afterwards: bins that follow the window (as
Evidently's do) hide the shift that they should show. Score bins are the same for all models, so that scores, decisions
and labels of different models can be laid side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

# Deciles show any shift of a tenth of the mass; more bins only raise the noise of their comparison.
QUANTILE_BINS: Final = 10
# Log-odds in steps of a quarter: 0.0001 to 0.998, the resolution of a budget's threshold at 1% fraud.
_LOG_ODDS: Final = np.linspace(-9.0, 6.0, 61)
SCORE_EDGES: Final = 1.0 / (1.0 + np.exp(-_LOG_ODDS))
SCORE_BINS: Final = len(SCORE_EDGES) + 1
# An amount of b binary digits: a change of units by 100 moves every amount by 6 or 7 bins.
AMOUNT_BINS: Final = 65
# What is counted at once stays in the processor's cache.
_BLOCK_ROWS: Final = 8_192


def quantile_edges(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Inner edges of the frozen bins of one feature: float32, ascending, shape (k,), k <= 11.

    values: float32, shape (n,), NaN = missing. Bin b holds ``edges[b - 1] <= x < edges[b]``; the first and the last are
    guard bins outside of all that is in ``values`` (Domino's practice). Equal quantiles of a lumpy feature become one.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return np.empty(0, dtype=np.float32)
    inner = np.quantile(known, np.linspace(0, 1, QUANTILE_BINS + 1)[:-1], method="inverted_cdf")
    beyond = np.nextafter(known.max(), np.float32(np.inf))
    return np.unique(np.append(inner, beyond).astype(np.float32))


class FeatureBins:
    """The bins of all features of a model, for counting a matrix at once."""

    __slots__ = ("_bins", "_edges", "_starts", "sizes", "total")

    def __init__(self, edges: Sequence[Sequence[float]]) -> None:
        """``edges``: for each feature its inner edges, ascending."""
        self.sizes = tuple(len(inner) + 2 for inner in edges)  # the last bin of each: missing
        self.total = sum(self.sizes)
        depth = max((len(inner) for inner in edges), default=0)
        padded = np.full((depth, len(edges)), np.inf, dtype=np.float32)
        for column, inner in enumerate(edges):
            padded[: len(inner), column] = inner
        self._edges = padded
        self._bins = np.array(self.sizes, dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._bins)[:-1]]).astype(np.int64)

    def places(self, rows: npt.NDArray[np.float32]) -> Counts:
        """Where each value counts among ``total`` counters: int64, shape (n, f). rows: float32, shape (n, f)."""
        found = np.zeros(rows.shape, dtype=np.uint8)  # narrow while it is passed over again and again
        for inner in self._edges:
            found += rows >= inner  # false for NaN
        missing = np.isnan(rows)
        if missing.any():
            found = np.where(missing, self._bins - 1, found)
        return found + self._starts

    def count(self, rows: npt.NDArray[np.float32]) -> list[Counts]:
        """Rows in each bin of each feature: int64, one array of ``sizes[i]`` for feature i."""
        return self.split(self.count_groups(rows, np.zeros(len(rows), dtype=np.int64), 1)[0])

    def count_groups(self, rows: npt.NDArray[np.float32], group: Counts, groups: int) -> Counts:
        """The same for each group of rows: int64, (groups, total). group: int64, shape (n,), 0 to groups - 1."""
        counts = np.zeros(groups * self.total, dtype=np.int64)
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            places = self.places(rows[block]) + group[block, None] * self.total
            counts += np.bincount(places.ravel(), minlength=len(counts))
        return counts.reshape(groups, self.total)

    def split(self, counts: Counts) -> list[Counts]:
        """``total`` counters as one array a feature."""
        return np.split(counts, self._starts[1:])


def score_bins(scores: Floats) -> Counts:
    """Bin of each probability: int64, shape (n,), 0 to SCORE_BINS - 1."""
    return np.searchsorted(SCORE_EDGES, scores, side="right")


def score_sums(scores: Floats) -> tuple[Counts, Floats, Floats]:
    """Records, sum of p and sum of p (1 - p) by score bin, each of shape (SCORE_BINS,)."""
    bins = score_bins(scores)
    return _sums(bins, None).astype(np.int64), _sums(bins, scores), _sums(bins, scores * (1 - scores))


def _sums(bins: Counts, weights: Floats | None) -> Floats:
    """By score bin; a bin that holds two whole numbers below 2^53 adds them exactly."""
    found: Floats = np.bincount(bins, weights=weights, minlength=SCORE_BINS).astype(np.float64)
    return found
