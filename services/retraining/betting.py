"""Is the challenger better? A test that may be looked at after every block of labels, and stopped whenever one likes.

Wealth 1 is bet on "the challenger is better", block after block: a share ``s`` of it on the block's difference ``d`` in
[-1, 1] (positive: the challenger did better), so that wealth is multiplied by ``1 + s d``. If the challenger is no
better, ``E[d | all before] <= 0``, wealth is a nonnegative supermartingale, and by Ville's inequality it ever reaches
``1 / alpha`` with probability at most ``alpha``, however often one looks. Nothing has to be independent or stationary.
Choe and Ramdas, "Comparing sequential forecasters" (arXiv 2110.00115); Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting" (arXiv 2010.09686).

Which share is best depends on the size of the difference, which nobody knows: the wealth is divided over several shares
at the start. A mean of supermartingales is one.

A block's difference is scaled by what blocks before it showed (a bet may depend on the past), and cut at [-1, 1]; so
"no better" means: the cut differences have no positive mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# From "hardly better" to "clearly better in every block"; below 1, so that one bad block never ends the game.
SHARES = np.array([0.1, 0.2, 0.4, 0.6, 0.8, 0.95])
# Two standard deviations cut 5% of a normal difference; a larger scale would leave most of the stake unused.
SCALE_DEVIATIONS = 2.0
# Before the first block: two blocks' worth of a spread of 5 points, as two sister models show on 30 frauds.
PRIOR_DEVIATION, PRIOR_BLOCKS = 0.05, 2.0


def scaled(differences: Sequence[float]) -> npt.NDArray[np.float64]:
    """Each difference over ``SCALE_DEVIATIONS`` standard deviations of those before it, cut at [-1, 1]: shape (n,).

    The spread is taken around their own mean: a challenger that is better by the same in every block wins every bet.
    """
    found = np.asarray(differences, dtype=np.float64)
    before = np.arange(len(found), dtype=np.float64)
    sums, squares = (
        (np.concatenate([[0.0], np.cumsum(x)[:-1]]) for x in (found, found**2)) if len(found) else (found, found)
    )
    spread = np.maximum(squares - sums**2 / np.maximum(before, 1.0), 0.0)
    deviation = np.sqrt((spread + PRIOR_BLOCKS * PRIOR_DEVIATION**2) / (before + PRIOR_BLOCKS))
    return np.clip(found / (SCALE_DEVIATIONS * deviation), -1.0, 1.0)


def log_wealth(bets: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Natural logarithm of the wealth after each of ``bets`` (float64 in [-1, 1], shape (n,)). Returns shape (n,)."""
    assert not len(bets) or float(np.abs(bets).max()) <= 1.0, "a bet beyond [-1, 1] could lose more than there is"
    if not len(bets):
        return np.empty(0)
    paths = np.cumsum(np.log1p(SHARES[:, None] * bets[None, :]), axis=1)
    best = paths.max(axis=0)
    mixed: npt.NDArray[np.float64] = best + np.log(np.exp(paths - best).mean(axis=0))
    return mixed
