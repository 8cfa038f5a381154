"""Do features and scores still look as when the model was made? Against its frozen reference. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from services.drift.comparing import (
    BASELINE_DAYS_MIN,
    RECORDS_MIN,
    Shares,
    Subject,
    cells_of,
    days_before,
    finding,
    mix,
    shift,
    window,
)
from services.drift.days import ALL, Days
from services.drift.distributions import chi2_quantile, chi2_survival
from services.drift.finding import Finding
from services.drift.references import KnownModel, Models
from services.drift.statistics import Counts, two_sample_chi2
from services.mesh.bins import SCORE_BINS
from services.mesh.records import AlertKind

# An action has to become half as frequent again, or as rare, before anybody acts on it.
ACTION_RATIO_FLOOR = 1.5
ACTION_SHARE_MIN = 0.002
# So much more of a feature missing, or outside of what training saw, is worth a look.
ODD_SHARE_FLOOR = 0.02


def check_model(days: Days, day: int, models: Models, rate: float) -> Iterator[Finding]:
    """Features and scores of the version that scored most on ``day``, and what was decided. ``rate``: of a family."""
    for version, _ in days.models("scoring", day).most_common(1):
        known = models.get(version)
        if known is not None and known.reference is not None:
            yield from _features(days, day, known, rate)
            yield from _scores(days, day, known, rate)
    yield from _actions(days, day, rate)


def _features(days: Days, day: int, known: KnownModel, rate: float) -> Iterator[Finding]:
    reference = known.reference
    assert reference is not None
    segments = [ALL, *(segment for segment in days.segments("scoring", day) if segment in reference.segments)]
    tests = 3 * len(segments) * len(reference.features)
    for segment in segments:
        tally, first = window(days, "scoring", day, segment, known.version)
        if tally.records - tally.inexact < RECORDS_MIN or len(tally.features) != len(reference.features):
            continue
        for place, (name, feature) in enumerate(zip(known.feature_names, reference.features, strict=True)):
            expected: Counts = np.array(feature.counts if segment == ALL else reference.segments[segment][place])
            if len(expected) == len(tally.features[place]):
                about = _about("features", "feature_shift", name, segment, known, first, day)
                yield from shift(about, tally.features[place], expected, feature.spread, rate / tests)
                yield from _odd(about, tally.features[place], expected, rate / tests)


def _odd(about: Subject, counts: Counts, reference: Counts, rate: float) -> Iterator[Finding]:
    """Missing values, and values outside of all that training saw, which PSI lets drown in the bins beside them."""
    for name, places in (("missing", [-1]), ("outside training", [0, -2])):
        odd, known = int(counts[places].sum()), int(reference[places].sum())
        records, total = int(counts.sum()), int(reference.sum())
        table = np.array([odd, records - odd]), np.array([known, total - known])
        statistic, freedom = two_sample_chi2(*table)
        now, before = odd / records, known / total
        yield finding(
            replace(about, kind="data_quality", name=f"{about.name} {name}"),
            statistic="share",
            value=now,
            p_value=chi2_survival(statistic, freedom) if freedom else 1.0,
            chance=before + math.sqrt(chi2_quantile(rate, 1) * max(before, 1 / total) / records),
            matters=abs(now - before) >= ODD_SHARE_FLOOR,
            floor=before + ODD_SHARE_FLOOR,
            records=records,
            population=f"{records:,} events against {total:,} of training",
            what=f"{name} in {now:.1%} instead of {before:.1%}",
        )


def _scores(days: Days, day: int, known: KnownModel, rate: float) -> Iterator[Finding]:
    assert known.reference is not None
    scores = known.reference.scores
    tally, first = window(days, "scoring", day, ALL, known.version)
    if tally.records >= RECORDS_MIN and len(scores.counts) == SCORE_BINS:
        about = _about("scores", "score_shift", "score", ALL, known, first, day)
        yield from shift(about, tally.all_scores().counts, np.array(scores.counts), scores.spread, rate)


def _actions(days: Days, day: int, rate: float) -> Iterator[Finding]:
    """The mix of actions against days before under the same model: a new one may decide differently by design."""
    for version, _ in days.models("decisions", day).most_common(1):
        tally, first = window(days, "decisions", day, ALL, version)
        past = [d for d in days_before(days, "decisions", first) if days.models("decisions", d)[version]]
        if len(past) < BASELINE_DAYS_MIN or tally.records < RECORDS_MIN:
            return
        daily = [days.tally("decisions", [d], cells_of(ALL, version)).actions() for d in past]
        about = Subject(
            family="decisions", kind="decision_shift", name="action", model_version=version,
            first_day=first, last_day=day,
        )  # fmt: skip
        yield from mix(about, tally.actions(), daily, rate, _action_matters)


def _action_matters(now: Shares, before: Shares) -> tuple[bool, str]:
    worst, words = 1.0, "the mix is the same"
    for name in {*now, *before}:
        a, b = now.get(name, 0.0), before.get(name, 0.0)
        ratio = max(a, b) / max(min(a, b), 1e-6)
        if max(a, b) >= ACTION_SHARE_MIN and ratio > worst:
            worst, words = ratio, f"{name} {a:.2%} instead of {b:.2%}"
    return worst >= ACTION_RATIO_FLOOR, words


def _about(family: str, kind: AlertKind, name: str, segment: str, known: KnownModel, first: int, last: int) -> Subject:
    return Subject(
        family=family, kind=kind, name=name, segment=segment, model_version=known.version,
        first_day=first, last_day=last,
    )  # fmt: skip
