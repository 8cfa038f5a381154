"""Customers whose young events no training may look at: on them a new model is judged from its first day. Pure.

Reviewers look where the champion's score is high, so of young events the labelled ones are no fair sample, and what a
new model has learned from them it would be praised for. Leaving out all young labels would blind it for a week to what
analysts see today. So half of the customers teach early, and the other half judges early; which half, their bucket
says: the one that is recorded on each decision and splits canaries, so it is the same in any replay.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Buckets are 0 to 9,999, and canaries take them from the top down.
HELD_OUT_BUCKETS = 5_000


def is_held_out(bucket: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """bucket: int64, shape (n,). Returns shape (n,)."""
    held_out: npt.NDArray[np.bool_] = bucket < HELD_OUT_BUCKETS
    return held_out
