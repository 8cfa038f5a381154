"""Fit the map from margin to probability on rows that the model has not seen.

Platt's two numbers where positives are few; isotonic regression joined by lines from about a thousand positives on,
where its shape is worth its variance. Plain isotonic steps would tie scores and so lose ranks: lines between the steps'
centres keep every rank.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.mesh.calibration import MARGIN_ABS_MAX, Calibration, Platt, Points
from services.retraining.dataset import TrainingRefused

POINTS_FRAUDS_MIN = 1_000
# Enough for any shape that a score can have; bounds the manifest.
POINTS_MAX = 64
# Log-odds by which the lines go on beyond the outermost centres, half way to 0 and to 1.
TAIL_MARGIN = 10.0
# A line between closer centres would be all but vertical, between closer rates all but level.
CENTRES_APART_MIN = 1e-3
RATES_RATIO_MIN = 1 + 1e-6
NEWTON_STEPS_MAX = 100
NEWTON_CHANGE_MIN = 1e-10


def fit_calibration(margins: npt.NDArray[np.float32], fraud: npt.NDArray[np.bool_]) -> Calibration:
    """The calibration for this much evidence. margins: float32, shape (n,); fraud: bool, shape (n,), both present.

    Raises `TrainingRefused` when higher margins do not mean more fraud.
    """
    platt = fit_platt(margins, fraud)
    if int(fraud.sum()) < POINTS_FRAUDS_MIN:
        return platt
    return fit_points(margins, fraud) or platt


def fit_platt(margins: npt.NDArray[np.float32], fraud: npt.NDArray[np.bool_]) -> Platt:
    """Logistic regression on the margin by Newton's method (Lin, Lin and Weng 2007).

    Platt's smoothed targets (1999) keep it finite where the classes separate.
    """
    x = margins.astype(np.float64)
    positives, negatives = float(fraud.sum()), float((~fraud).sum())
    target = np.where(fraud, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    slope, intercept = 1.0, 0.0
    loss = _log_loss(slope * x + intercept, target)
    for _ in range(NEWTON_STEPS_MAX):
        p = 1 / (1 + np.exp(-np.clip(slope * x + intercept, -MARGIN_ABS_MAX, MARGIN_ABS_MAX)))
        residual, weight = p - target, p * (1 - p)
        gradient = np.array([residual @ x, residual.sum()])
        # The ridge keeps the system solvable when all margins are equal.
        hessian = np.array([[weight @ (x * x), weight @ x], [weight @ x, weight.sum()]]) + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        while (new := _log_loss((slope - scale * step[0]) * x + intercept - scale * step[1], target)) > loss:
            scale /= 2
            if scale < NEWTON_CHANGE_MIN:
                new = loss
                break
        slope, intercept = float(slope - scale * step[0]), float(intercept - scale * step[1])
        if loss - new < NEWTON_CHANGE_MIN * max(loss, 1.0):
            break
        loss = new
    if not slope > 0:
        raise TrainingRefused(f"calibration slope={slope:.3g}: on the validation part higher scores mean less fraud")
    return Platt(slope=slope, intercept=intercept)


def fit_points(margins: npt.NDArray[np.float32], fraud: npt.NDArray[np.bool_]) -> Points | None:
    """Isotonic regression, the centres of its steps joined by lines; ``None`` where it has fewer than two steps."""
    order = np.argsort(margins, kind="stable")
    x, y = margins[order].astype(np.float64), fraud[order].astype(np.float64)
    # Bins of equal count first: they bound the number of points, and each centre rests on enough rows.
    edges = np.linspace(0, len(x), min(POINTS_MAX - 2, len(x)) + 1).astype(np.intp)
    weight = np.diff(edges).astype(np.float64)
    # One more row at the overall rate in each bin: no bin says 0 or 1, where lines would be level and tie scores.
    centres = np.add.reduceat(x, edges[:-1]) / weight
    rates = (np.add.reduceat(y, edges[:-1]) + y.mean()) / (weight + 1)
    at, probabilities = _pool(centres, rates, weight)
    if len(at) < 2:
        return None
    return Points(
        margins=(at[0] - TAIL_MARGIN, *at, at[-1] + TAIL_MARGIN),
        probabilities=(probabilities[0] / 2, *probabilities, (1 + probabilities[-1]) / 2),
    )


def _pool(
    centres: npt.NDArray[np.float64], rates: npt.NDArray[np.float64], weight: npt.NDArray[np.float64]
) -> tuple[list[float], list[float]]:
    """Pool adjacent violators (Ayer et al. 1955): centres and rates of the blocks, both strictly increasing."""
    blocks: list[tuple[float, float, float]] = []
    for centre, rate, w in zip(centres.tolist(), rates.tolist(), weight.tolist(), strict=True):
        block = (centre, rate, w)
        while blocks and not _apart(blocks[-1], block):
            before = blocks.pop()
            total = before[2] + block[2]
            block = (
                (before[0] * before[2] + block[0] * block[2]) / total,
                (before[1] * before[2] + block[1] * block[2]) / total,
                total,
            )
        blocks.append(block)
    return [block[0] for block in blocks], [block[1] for block in blocks]


def _apart(before: tuple[float, float, float], after: tuple[float, float, float]) -> bool:
    return after[0] - before[0] >= CENTRES_APART_MIN and after[1] > before[1] * RATES_RATIO_MIN


def _log_loss(log_odds: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> float:
    return float(np.sum(np.logaddexp(0, log_odds) - target * log_odds))
