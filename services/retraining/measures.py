"""How well scores order and how true they are, on rows that the model has not seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CALIBRATION_BINS = 10


def average_precision(
    scores: npt.NDArray[np.float64], fraud: npt.NDArray[np.bool_], weight: npt.NDArray[np.float64] | None = None
) -> float:
    """Sum over thresholds of (recall gained) x precision, equal scores taken together; NaN without frauds.

    ``weight`` (shape (n,), > 0; None: all alike) says how many events each row stands for.
    """
    if weight is not None and not np.all(weight == 1.0):
        return _weighted_average_precision(scores, fraud, weight)
    caught, flagged = _by_threshold(scores, fraud)
    gained = np.diff(caught, prepend=0)
    return float((gained * caught / flagged).sum() / caught[-1]) if caught[-1] else float("nan")


def auc_roc(scores: npt.NDArray[np.float64], fraud: npt.NDArray[np.bool_]) -> float:
    """Chance that a fraud scores above a genuine event, equal scores counting half; NaN if a class is absent."""
    caught, flagged = _by_threshold(scores, fraud)
    wrong = flagged - caught
    if not caught[-1] or not wrong[-1]:
        return float("nan")
    area = float((np.diff(wrong, prepend=0) * (caught + np.concatenate(([0], caught[:-1])))).sum()) / 2
    return area / (float(caught[-1]) * float(wrong[-1]))


def brier(scores: npt.NDArray[np.float64], fraud: npt.NDArray[np.bool_]) -> float:
    """Mean squared distance between probability and outcome."""
    return float(np.mean((scores - fraud) ** 2))


def log_loss(scores: npt.NDArray[np.float64], fraud: npt.NDArray[np.bool_]) -> float:
    """Mean negative log likelihood, in nats; probabilities are kept 1e-12 away from 0 and 1."""
    p = np.clip(scores, 1e-12, 1 - 1e-12)
    return float(-np.mean(np.where(fraud, np.log(p), np.log1p(-p))))


def calibration_error(scores: npt.NDArray[np.float64], fraud: npt.NDArray[np.bool_]) -> float:
    """Mean distance between score and fraud share over bins of equal count, weighted by count (ECE)."""
    order = np.argsort(scores, kind="stable")
    bins = np.array_split(order, min(CALIBRATION_BINS, len(order)))
    return float(sum(abs(float(scores[rows].sum()) - float(fraud[rows].sum())) for rows in bins) / len(scores))


def low_half_fraud_share(scores: npt.NDArray[np.float64], fraud: npt.NDArray[np.bool_]) -> float:
    """Share of frauds in the half of the rows with the lowest scores: near 0, unless labels are wrong at random."""
    low = np.argsort(scores, kind="stable")[: len(scores) // 2]
    return float(fraud[low].mean()) if len(low) else 0.0


def _weighted_average_precision(
    scores: npt.NDArray[np.float64], fraud: npt.NDArray[np.bool_], weight: npt.NDArray[np.float64]
) -> float:
    order = np.argsort(-scores, kind="stable")
    last_of_equal = np.append(np.diff(scores[order]) != 0, True)
    caught = np.cumsum((weight * fraud)[order])[last_of_equal]
    flagged = np.cumsum(weight[order])[last_of_equal]
    return float((np.diff(caught, prepend=0.0) * caught / flagged).sum() / caught[-1]) if caught[-1] else float("nan")


def _by_threshold(
    scores: npt.NDArray[np.float64], fraud: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Frauds and rows at or above each distinct score, highest first: int64, shape (distinct,)."""
    order = np.argsort(-scores, kind="stable")
    last_of_equal = np.append(np.diff(scores[order]) != 0, True)
    caught = np.cumsum(fraud[order], dtype=np.int64)[last_of_equal]
    return caught, np.flatnonzero(last_of_equal) + 1
