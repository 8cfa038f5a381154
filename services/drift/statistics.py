"""How far counts moved, how far chance moves them, and which of many moves to believe. Pure.

All counts are of frozen bins: ``counts`` of the window at hand, ``reference`` of what it is compared with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.drift.distributions import chi2_quantile, gamma_survival, student_survival
from services.mesh.reference import Spread

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Below this many expected records a cell's share is noise that no chi-squared law describes (Cochran 1954).
EXPECTED_MIN = 5.0


@dataclass(frozen=True, slots=True)
class NullLaw:
    """What a distance is when nothing moved: ``scale`` times a chi-squared variable of ``freedom`` degrees."""

    scale: float
    freedom: float

    def survival(self, value: float) -> float:
        """Chance of ``value`` or more."""
        return gamma_survival(self.freedom / 2, value / (2 * self.scale))

    def quantile(self, survival: float) -> float:
        """The value that is exceeded with this chance."""
        return self.scale * chi2_quantile(survival, self.freedom)


def psi(counts: Counts, reference: Counts) -> float:
    """Population stability index, sum of (c - r) ln(c / r) over the shares c and r of each bin.

    Counts are smoothed, p = (n + 1/2) / (N + B/2), so that an empty bin weighs by what it could have held and not by a
    constant of ours. Kullback & Leibler (1951) call it J; Siddiqi (2006) the PSI.
    """
    bins = len(counts)
    c = (counts + 0.5) / (counts.sum() + 0.5 * bins)
    r = (reference + 0.5) / (reference.sum() + 0.5 * bins)
    return float(((c - r) * np.log(c / r)).sum())


def psi_null(bins: int, records: int, reference_records: int, spread: Spread) -> NullLaw:
    """The law of PSI when window and reference come from the same world.

    Sampling alone gives (1/N + 1/M) chi2 of B - 1 degrees (Yurdakul 2018, Statistical Properties of PSI). Days differ
    beyond that: ``spread`` adds its mean and variance, and a chi-squared law with both moments takes the sum's place
    (Satterthwaite 1946; second-order correction of Rao & Scott 1984).
    """
    chance = 1 / records + 1 / reference_records
    mean = (bins - 1) * chance + spread.mean
    variance = 2 * (bins - 1) * chance**2 + spread.variance + 4 * chance * spread.mean
    return NullLaw(scale=variance / (2 * mean), freedom=2 * mean**2 / variance)


def merge_sparse(counts: Counts, reference: Counts) -> tuple[Counts, Counts]:
    """Neighbouring bins joined until each expects EXPECTED_MIN records in both; for ordered bins.

    Expected under "nothing moved": the pooled share of a bin times each sample's size.
    """
    pooled = (counts + reference).astype(np.float64)
    least = min(counts.sum(), reference.sum()) / max(pooled.sum(), 1.0)
    starts, held = [0], 0.0
    for place, expected in enumerate((pooled * least).tolist()):
        if held >= EXPECTED_MIN:
            starts.append(place)
            held = 0.0
        held += expected
    if held < EXPECTED_MIN and len(starts) > 1:
        starts.pop()  # too little is left for a bin of its own: it joins the one before
    merged = np.array(starts, dtype=np.intp)
    return np.add.reduceat(counts, merged), np.add.reduceat(reference, merged)


def join_rare(counts: Counts, reference: Counts) -> tuple[Counts, Counts]:
    """All categories that expect fewer than EXPECTED_MIN records become one; for bins without an order."""
    pooled = counts + reference
    rare = pooled * (min(counts.sum(), reference.sum()) / max(int(pooled.sum()), 1)) < EXPECTED_MIN
    if rare.sum() < 2:
        return counts, reference
    return (
        np.append(counts[~rare], counts[rare].sum()),
        np.append(reference[~rare], reference[rare].sum()),
    )


def two_sample_chi2(counts: Counts, reference: Counts) -> tuple[float, int]:
    """Pearson's X2 of two samples over categories, and its degrees of freedom; cells as they come (merge before)."""
    used = counts + reference > 0
    table = np.stack([counts[used], reference[used]]).astype(np.float64)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return float(((table - expected) ** 2 / expected).sum()), int(used.sum()) - 1


def daily_t(counts: Counts, daily: Counts) -> float:
    """Chance that a day's shares lie so far from those of the days before. counts: shape (k,); daily: shape (days, k).

    Shares are stabilised, asin sqrt(share), whose variance is 1 / 4n whatever the share (Anscombe 1948); a new value
    against the sample of days is Student's t, and the smallest chance over categories counts k times (Bonferroni).
    """
    sizes = daily.sum(axis=1)
    daily = daily[sizes > 0]
    days = len(daily)
    if days < 2:
        return 1.0
    past = np.arcsin(np.sqrt(daily / daily.sum(axis=1, keepdims=True)))
    now = np.arcsin(np.sqrt(counts / counts.sum()))
    sampling = 1 / (4 * np.median(sizes[sizes > 0])) + 1 / (4 * counts.sum())
    variance = np.maximum(past.var(axis=0, ddof=1) * (1 + 1 / days), sampling)
    t = np.abs(now - past.mean(axis=0)) / np.sqrt(variance)
    return min(1.0, len(counts) * 2 * student_survival(float(t.max()), days - 1))


def believed(p_values: Sequence[float], rate: float) -> list[bool]:
    """Which of many tests to believe so that at most ``rate`` of the believed are false in the mean.

    Benjamini & Hochberg (1995): with p sorted, all up to the last k with p_k <= rate k / m. When nothing moved anywhere
    the chance to believe anything at all is at most ``rate``.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    last = 0
    for rank, i in enumerate(order, 1):
        if p_values[i] <= rate * rank / len(p_values):
            last = rank
    found = [False] * len(p_values)
    for i in order[:last]:
        found[i] = True
    return found


def only_new(count: int, records: int, reference_records: int) -> float:
    """Chance that all ``count`` records of a value fall into the window and none into the reference.

    Hypergeometric, when the value is as likely in both: the product of (N - i) / (N + M - i).
    """
    total = records + reference_records
    return math.exp(sum(math.log((records - i) / (total - i)) for i in range(count))) if count <= records else 0.0


def calibration_error(counts: Counts, frauds: Counts, sums: Floats) -> float:
    """Expected calibration error: mean over records of |share of frauds - mean score| of their bin.

    Naeini, Cooper & Hauskrecht (2015), here over the frozen score bins.
    """
    return float(np.abs(frauds - sums).sum() / max(int(counts.sum()), 1))


def brier_score(counts: Counts, frauds: Counts, sums: Floats, variances: Floats, fraud_sums: Floats) -> float:
    """Mean squared error of the scores (Brier 1950), exactly, from sums alone.

    (p - y)^2 sums to sum p^2 - 2 sum p over frauds + frauds, and sum p^2 = sum p - sum p (1 - p).
    """
    squares = float((sums - variances).sum())
    return (squares - 2 * float(fraud_sums.sum()) + int(frauds.sum())) / max(int(counts.sum()), 1)


def surprise(frauds: float, expected: float, variance: float, dispersion: float) -> float:
    """How many standard deviations the frauds lie above what the scores said: (sum y - sum p) / sqrt(d sum p (1 - p)).

    The z of calibration-in-the-large (Cox 1958; Spiegelhalter 1986). ``dispersion``: campaigns make frauds come
    together, so their sum varies more than independent events would (quasi-likelihood, Wedderburn 1974).
    """
    return (frauds - expected) / math.sqrt(max(variance * dispersion, 1e-12))


@dataclass(frozen=True, slots=True)
class AtBudget:
    """Of the ``records`` with the highest scores."""

    records: float
    precision: float
    error: float  # standard error of the precision


def estimated_at_budget(counts: Counts, sums: Floats, variances: Floats, budget: float) -> AtBudget | None:
    """Precision among the ``budget`` highest scores if the scores are calibrated, without any label; None: no records.

    The mean of p over them, with standard error sqrt(sum p (1 - p)) / k: confidence-based performance estimation
    (NannyML's CBPE) at a budget. The bin that the budget ends in counts in proportion.
    """
    return _at_budget(counts, sums, variances, budget)


def realised_at_budget(counts: Counts, frauds: Counts, budget: float) -> AtBudget | None:
    """Precision among the ``budget`` highest scores of labelled records, by score bin; None: no records."""
    share = frauds / np.maximum(counts, 1)
    return _at_budget(counts, frauds.astype(np.float64), counts * share * (1 - share), budget)


def _at_budget(counts: Counts, hits: Floats, variances: Floats, budget: float) -> AtBudget | None:
    from_top = counts[::-1].astype(np.float64)
    if not from_top.sum() or budget <= 0:
        return None
    taken = np.clip(budget - (np.cumsum(from_top) - from_top), 0.0, from_top)
    part = taken / np.maximum(from_top, 1.0)
    records = float(taken.sum())
    return AtBudget(
        records=records,
        precision=float((part * hits[::-1]).sum() / records),
        error=math.sqrt(float((part * variances[::-1]).sum())) / records,
    )
