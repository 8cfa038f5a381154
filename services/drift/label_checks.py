"""Are decisions still as good? Measured on labels, each measure with the population that it is true of. Pure.

``precision``: frauds among the highest scores of a day, as many as reviewers can look at, against what the model
reached when it was validated. ``gap``: the same frauds against what the scores themselves promised; a gap says that
fraud has changed, whatever the inputs look like. ``calibration``: frauds against promised frauds over all scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from services.drift.comparing import Subject, finding
from services.drift.days import ALL, DAY_MS, DAYS_KEPT, Days
from services.drift.distributions import normal_quantile, normal_survival
from services.drift.finding import Finding
from services.drift.labels import POPULATIONS, Budgeted, LabelBook, Population
from services.drift.references import KnownModel, Models
from services.drift.statistics import AtBudget, brier_score, calibration_error, realised_at_budget, surprise
from services.mesh.records import AlertKind

# Labels under this say nothing: 30 at 96% have a standard error of 3.6 points.
LABELS_MIN = 30
WINDOW_DAYS = 3
WINDOW_DAYS_MAX = 7
HISTORY_DAYS = 28
HISTORY_DAYS_MIN = 5
# What is tolerated before it counts as worse. Precision: half of what the story lost before it was stopped (96 to 93%).
PRECISION_DROP_FLOOR = 0.015
GAP_FLOOR = 0.05
# Frauds above or below the promised ones; a model that is off by less still ranks and prices well.
CALIBRATION_RATIO_FLOOR = 1.3
_REVIEW_LAG_DAYS = 2  # a day's reviews are in by the end of the next


def check_labels(days: Days, book: LabelBook, now_ms: int, models: Models, rate: float) -> Iterator[Finding]:
    """All that can be tested at ``now_ms``. ``rate``: false-alarm rate of a family."""
    serving = days.models("scoring", now_ms // DAY_MS - 1).most_common(1)
    known = models.get(serving[0][0]) if serving else None  # one that was replaced is nobody's trouble any more
    if known is not None and known.reference is not None:
        for population in POPULATIONS:
            last = last_day(days, book, population, now_ms)
            found = _window(book, population, last, known.version)
            if found is None:
                continue
            first, at = found
            between = _between_days(book, population, first, models)
            yield from _precision(days, book, population, (first, last), at, known, between, rate / len(POPULATIONS))
            yield _gap(population, (first, last), at, known, rate / len(POPULATIONS))
    yield from _calibration(days, book, now_ms, models, rate)


def last_day(days: Days, book: LabelBook, population: Population, now_ms: int) -> int:
    """The latest day that ``population`` is complete for; -1: there is none."""
    last = now_ms // DAY_MS - _REVIEW_LAG_DAYS
    if population == "reviewed":
        return last
    days_back = range(last, last - DAYS_KEPT, -1)
    return next((day for day in days_back if book.has_matured(day, days.models("scoring", day).total())), -1)


def promised(days: Days, known: KnownModel, span: tuple[int, int], budget: int) -> AtBudget | None:
    """What the validated model reached at ``budget`` alerts a day, given the number of events of these days."""
    assert known.reference is not None
    scores = known.reference.scores
    counts, frauds = np.array(scores.validated_counts), np.array(scores.validated_frauds)
    length = span[1] - span[0] + 1
    a_day = sum(days.models("scoring", day).total() for day in range(span[0], span[1] + 1)) / length
    return realised_at_budget(counts, frauds, budget * counts.sum() / a_day) if a_day else None


def _window(book: LabelBook, population: Population, last: int, version: str) -> tuple[int, Budgeted] | None:
    """First day and labels of the shortest window up to ``last`` with LABELS_MIN labels, but at least WINDOW_DAYS.

    Only days whose highest scores are mostly the model's own: it does not answer for those before it.
    """
    for length in range(1, WINDOW_DAYS_MAX + 1):
        first = last - length + 1
        day = book.at_budget(population, first, first)
        if 2 * day.models.get(version, 0) < day.records:
            return None
        at = book.at_budget(population, first, last, version)
        if length >= WINDOW_DAYS and at.records >= LABELS_MIN:
            return first, at
    return None


def _precision(
    days: Days,
    book: LabelBook,
    population: Population,
    span: tuple[int, int],
    at: Budgeted,
    known: KnownModel,
    between: float | None,
    rate: float,
) -> Iterator[Finding]:
    """One-sided test that precision is below what validation showed by more than is tolerated.

    Normal law of a share, with the sampling error of both and the variation between days that the past shows beyond it.
    """
    reached = promised(days, known, span, book.budget)
    if reached is None:
        return
    assert known.reference is not None
    now = at.frauds / at.records
    tolerated = max(reached.precision - PRECISION_DROP_FLOOR, 0.01)
    length = span[1] - span[0] + 1
    if between is None:
        between = 0.0004 * min(known.reference.scores.dispersion, 4.0)  # two points where frauds come one by one
    variance = tolerated * (1 - tolerated) / at.records + between / length + reached.error**2
    error = math.sqrt(max(variance, 1e-9))
    yield finding(
        _about("precision", "precision", population, book.budget, known, span),
        statistic="precision",
        value=now,
        p_value=normal_survival((tolerated - now) / error),
        chance=max(0.0, tolerated - normal_quantile(rate) * error),
        matters=now < tolerated,
        floor=tolerated,
        records=at.records,
        is_harm=True,
        population=_described(population, at.records, book.budget),
        what=f"{now:.1%} of them were fraud, {reached.precision:.1%} when the model was validated",
        evidence={"frauds": at.frauds, "validated": round(reached.precision, 4), "error": round(error, 4)},
    )


def _between_days(book: LabelBook, population: Population, before_day: int, models: Models) -> float | None:
    """Variance of daily precision beyond sampling, over the weeks before; None: they are too few.

    Days on which nothing trained decided are no measure.
    """
    daily = [book.at_budget(population, day, day) for day in range(before_day - HISTORY_DAYS, before_day)]
    shares = [
        (at.frauds / at.records, at.records)
        for at in daily
        if at.records >= LABELS_MIN and _is_compared(models.get(max(at.models, key=lambda name: at.models[name])))
    ]
    if len(shares) < HISTORY_DAYS_MIN:
        return None
    values = np.array([share for share, _ in shares])
    sampling = float(np.mean([share * (1 - share) / records for share, records in shares]))
    return max(0.0, float(values.var(ddof=1)) - sampling)


def _is_compared(known: KnownModel | None) -> bool:
    return known is not None and known.reference is not None


def _gap(population: Population, span: tuple[int, int], at: Budgeted, known: KnownModel, rate: float) -> Finding:
    """One-sided test that fewer of the highest scores are fraud than their scores said, beyond what is tolerated."""
    assert known.reference is not None
    dispersion = known.reference.scores.dispersion
    tolerated = at.expected - GAP_FLOOR * at.records
    z = -surprise(at.frauds, tolerated, at.variance, dispersion)
    gap = (at.expected - at.frauds) / at.records
    error = math.sqrt(at.variance * dispersion) / at.records
    return finding(
        _about("gap", "estimate_gap", population, 0, known, span),
        statistic="estimate minus realised precision",
        value=gap,
        p_value=normal_survival(z),
        chance=GAP_FLOOR + normal_quantile(rate) * error,
        matters=gap >= GAP_FLOOR,
        floor=GAP_FLOOR,
        records=at.records,
        is_harm=True,
        population=_described(population, at.records, 0),
        what=f"their scores promised {at.expected / at.records:.1%} fraud, {at.frauds / at.records:.1%} were",
        evidence={"expected": round(at.expected, 2), "frauds": at.frauds, "error": round(error, 4)},
    )


def _calibration(days: Days, book: LabelBook, now_ms: int, models: Models, rate: float) -> Iterator[Finding]:
    """Two-sided test that frauds differ from promised frauds by more than is tolerated, on a week of matured days."""
    last = last_day(days, book, "matured", now_ms)
    first = last - WINDOW_DAYS_MAX + 1
    if last < 0:
        return
    by_model = {version: book.worth(first, last, version) for version in book.models(first, last)}
    for version, worth in by_model.items():
        known, promised_frauds = models.get(version), float(worth.sums.sum())
        if known is None or known.reference is None or promised_frauds < LABELS_MIN:
            continue
        frauds, dispersion = int(worth.frauds.sum()), known.reference.scores.dispersion
        ratio = max(frauds, 0.5) / promised_frauds
        nearest = promised_frauds * (CALIBRATION_RATIO_FLOOR if ratio > 1 else 1 / CALIBRATION_RATIO_FLOOR)
        z = surprise(frauds, nearest, float(worth.variances.sum()) * nearest / promised_frauds, dispersion)
        yield finding(
            _about("calibration", "calibration", "matured", 0, known, (first, last)),
            statistic="frauds per promised fraud",
            value=ratio,
            p_value=normal_survival(z if ratio > 1 else -z),
            chance=CALIBRATION_RATIO_FLOOR,
            matters=max(ratio, 1 / ratio) >= CALIBRATION_RATIO_FLOOR,
            floor=CALIBRATION_RATIO_FLOOR,
            records=int(worth.counts.sum()),
            is_harm=True,
            population=f"{int(worth.counts.sum()):,} events whose labels have matured",
            what=f"{frauds} frauds where scores promised {promised_frauds:.0f}",
            evidence={
                "calibration_error": round(calibration_error(worth.counts, worth.frauds, worth.sums), 6),
                "brier": round(
                    brier_score(worth.counts, worth.frauds, worth.sums, worth.variances, worth.fraud_sums), 6
                ),
            },
        )


def _about(
    family: str, kind: AlertKind, population: Population, budget: int, known: KnownModel, span: tuple[int, int]
) -> Subject:
    names = {"precision": f"precision at {budget} a day", "gap": "promised precision"}
    name = names.get(family, family)
    return Subject(
        family=family, kind=kind, name=f"{name} ({population})", segment=ALL, model_version=known.version,
        first_day=span[0], last_day=span[1],
    )  # fmt: skip


def _described(population: Population, records: int, budget: int) -> str:
    among = f"the {budget} highest scores of each day" if budget else "the highest scores of each day"
    who = "that an analyst looked at" if population == "reviewed" else "whose labels have matured"
    return f"{records:,} events among {among} {who}"
