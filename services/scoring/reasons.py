"""Why a score is high: which features raised it and by how much, for the events where somebody may ask.

Exact contributions cost far more than the score, so only events that may be stopped get them, and of those the ones
where a wrong decision costs most when there are more than the batch can afford.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.scoring.model import Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One feature that raised the score of one event."""

    feature: str
    value: float
    contribution: float  # log-odds before calibration, > 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chosen:
    """Which rows of a batch are explained."""

    rows: npt.NDArray[np.intp]  # to explain, highest expected loss first
    partial: npt.NDArray[np.intp]  # would deserve it, left out for the cap; same order


def choose(
    scores: npt.NDArray[np.float64], amounts: npt.NDArray[np.float64], score_min: float, rows_max: int
) -> Chosen:
    """Rows with ``score >= score_min``, by score times amount; at most ``rows_max`` of them are explained.

    scores, amounts: float64, shape (n,). Equal losses keep the order of the batch.
    """
    assert len(scores) == len(amounts), f"{len(scores)} scores, {len(amounts)} amounts"
    candidates = np.flatnonzero(scores >= score_min)
    ranked = candidates[np.argsort(-(scores * amounts)[candidates], kind="stable")]
    return Chosen(rows=ranked[:rows_max], partial=ranked[rows_max:])


def explain(
    scorer: Scores, rows: npt.NDArray[np.float32], fallback_mask: npt.NDArray[np.bool_], reasons_max: int
) -> list[tuple[Reason, ...]]:
    """For each row the features that raised its score, strongest first, at most ``reasons_max``.

    rows: float32, shape (n, f), columns in manifest order. fallback_mask: bool, shape (n,). Features that lowered the
    score are no reason for stopping it and are left out, so a row may have fewer reasons or none.
    """
    if not len(rows):
        return []
    parts = scorer.contributions(rows, fallback_mask)[:, :-1]
    order = np.argsort(-parts, axis=1, kind="stable")[:, :reasons_max]
    return [
        tuple(
            Reason(feature=scorer.feature_names[column], value=float(row[column]), contribution=float(part[column]))
            for column in columns
            if part[column] > 0
        )
        for row, part, columns in zip(rows, parts, order, strict=True)
    ]
