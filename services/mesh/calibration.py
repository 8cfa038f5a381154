"""From a model's margin (log-odds) to a probability: two shapes, both increasing.

Training fits one, the manifest carries it, scoring applies it. Increasing, so that calibration never changes who is
ranked above whom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

# exp() of anything beyond stays a normal float64, so that no batch ever raises an overflow.
MARGIN_ABS_MAX = 700.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Platt:
    """``1 / (1 + exp(-(slope * margin + intercept)))`` (Platt 1999); ``slope`` > 0."""

    slope: float
    intercept: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Straight lines between ``(margins[i], probabilities[i])``, level outside; margins strictly increase."""

    margins: tuple[float, ...]
    probabilities: tuple[float, ...]


Calibration = Platt | Points


def calibrated(calibration: Calibration, margins: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Probabilities of ``margins``.

    margins: float32, shape (n,), log-odds. Returns float64, shape (n,), in [0, 1].
    """
    match calibration:
        case Platt(slope=slope, intercept=intercept):
            log_odds = margins.astype(np.float64)
            log_odds *= -slope
            log_odds -= intercept
            np.clip(log_odds, -MARGIN_ABS_MAX, MARGIN_ABS_MAX, out=log_odds)
            np.exp(log_odds, out=log_odds)
            log_odds += 1.0
            return np.reciprocal(log_odds, out=log_odds)
        case Points(margins=at, probabilities=probabilities):
            return np.interp(margins.astype(np.float64), at, probabilities)


def flaw(calibration: Calibration) -> str | None:
    """What keeps ``calibration`` from being an increasing map into [0, 1], in one clause; ``None`` if nothing."""
    match calibration:
        case Platt(slope=slope, intercept=intercept):
            if not (math.isfinite(slope) and math.isfinite(intercept)):
                return f"slope={slope} intercept={intercept} must be finite"
            return None if slope > 0 else f"slope={slope} must be > 0, or higher margins mean lower probabilities"
        case Points(margins=at, probabilities=probabilities):
            return _points_flaw(at, probabilities)


def _points_flaw(at: tuple[float, ...], probabilities: tuple[float, ...]) -> str | None:
    if len(at) < 2 or len(at) != len(probabilities):
        return f"{len(at)} margins and {len(probabilities)} probabilities: at least two of each, and as many"
    if not all(map(math.isfinite, at)) or any(b <= a for a, b in pairwise(at)):
        return "margins must be finite and strictly increase"
    if not all(0.0 <= p <= 1.0 for p in probabilities):
        return "probabilities must lie in [0, 1]"
    if any(b < a for a, b in pairwise(probabilities)):
        return "probabilities must not fall as the margin rises"
    return None
