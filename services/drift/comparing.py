"""Two ways to compare counts, as findings: ordered bins against a reference, categories against days before. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.drift.days import ALL, DAYS_KEPT, Cell, Days, Tally
from services.drift.distributions import chi2_quantile, chi2_survival
from services.drift.finding import Finding
from services.drift.statistics import daily_t, join_rare, merge_sparse, psi, psi_null, two_sample_chi2
from services.mesh.records import AlertKind
from services.mesh.reference import Spread

Counts = npt.NDArray[np.int64]
Shares = Mapping[str, float]
Matters = Callable[[Shares, Shares], tuple[bool, str]]
"""(now, before) -> whether it matters, and what moved in words."""

RECORDS_MIN = 300
WINDOW_DAYS_MAX = 7
# Siddiqi's convention: below 0.1 a population is the same for all purposes.
PSI_FLOOR = 0.1
BASELINE_DAYS = 28
BASELINE_DAYS_MIN = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is compared, and in which population."""

    family: str
    kind: AlertKind
    name: str
    segment: str = ALL
    model_version: str = ""
    first_day: int
    last_day: int


def cells_of(segment: str, version: str | None = None) -> Callable[[Cell], bool]:
    """The cells of one segment (or all) and one model (or any)."""

    def fits(cell: Cell) -> bool:
        return segment in (ALL, cell[0]) and version in (None, cell[1])

    return fits


def window(days: Days, stage: str, day: int, segment: str = ALL, version: str | None = None) -> tuple[Tally, int]:
    """Counts of the shortest window ending with ``day`` that has RECORDS_MIN records, and its first day."""
    fits, whole = cells_of(segment, version), Tally()
    for back in range(WINDOW_DAYS_MAX):
        whole.merge(days.tally(stage, [day - back], fits))
        if whole.records >= RECORDS_MIN:
            return whole, day - back
    return whole, day - WINDOW_DAYS_MAX + 1


def days_before(days: Days, stage: str, day: int) -> list[int]:
    """Days to compare with: four weeks before ``day``, without the first day kept, which began somewhere."""
    first = days.first_day(stage)
    return [] if first is None else list(range(max(day - BASELINE_DAYS, first + 1, day - DAYS_KEPT), day))


def shift(about: Subject, counts: Counts, reference: Counts, spread: Spread, rate: float) -> Iterator[Finding]:
    """PSI of ordered bins; nothing where too little is known. ``rate``: false-alarm rate of this one test."""
    merged, expected = merge_sparse(counts, reference)
    records, known = int(counts.sum()), int(reference.sum())
    if len(merged) < 2 or not records or not known:
        return
    value, law = psi(merged, expected), psi_null(len(merged), records, known, spread)
    yield finding(
        about,
        statistic="psi",
        value=value,
        p_value=law.survival(value),
        chance=law.quantile(rate),
        matters=value >= PSI_FLOOR,
        floor=PSI_FLOOR,
        records=records,
        population=f"{records:,} events against {known:,} of training",
        what=f"{_moved(counts, reference)}; PSI {value:.3f}",
        evidence={"counts": counts.tolist(), "reference": reference.tolist(), "bins_compared": len(merged)},
    )


def mix(
    about: Subject, now: Counter[str], daily: Sequence[Counter[str]], rate: float, matters: Matters
) -> Iterator[Finding]:
    """Categories against past days: beyond sampling, by Pearson's X2, and beyond what days differ by, by ``daily_t``.

    The larger of both chances counts, so that neither many records nor steady days alone raise an alert.
    """
    past: Counter[str] = Counter()
    for counts in daily:
        past.update(counts)
    names = sorted({*now, *past})
    current, before = (np.array([counts[name] for name in names], dtype=np.int64) for counts in (now, past))
    records, known = int(current.sum()), int(before.sum())
    if not records or not known:
        return
    statistic, freedom = two_sample_chi2(*join_rare(current, before))
    if freedom < 1:
        return
    between = daily_t(current, np.array([[counts[name] for name in names] for counts in daily], dtype=np.int64))
    shares_now = {name: int(count) / records for name, count in zip(names, current, strict=True)}
    shares_then = {name: int(count) / known for name, count in zip(names, before, strict=True)}
    does_matter, what = matters(shares_now, shares_then)
    yield finding(
        about,
        statistic="chi2",
        value=statistic,
        p_value=max(chi2_survival(statistic, freedom), between),
        chance=chi2_quantile(rate, freedom),
        matters=does_matter,
        floor=0.0,
        records=records,
        population=f"{records:,} events against {known:,} of the {len(daily)} days before",
        what=what,
        evidence={"now": _rounded(shares_now), "before": _rounded(shares_then), "p_between_days": between},
    )


def finding(
    about: Subject,
    *,
    statistic: str,
    value: float,
    p_value: float,
    chance: float,
    matters: bool,
    floor: float,
    records: int,
    population: str,
    what: str,
    is_harm: bool = False,
    evidence: Mapping[str, object] | None = None,
) -> Finding:
    """A Finding about a Subject."""
    return Finding(
        family=about.family, kind=about.kind, subject=about.name, segment=about.segment,
        model_version=about.model_version, first_day=about.first_day, last_day=about.last_day, statistic=statistic,
        value=value, p_value=p_value, chance=chance, matters=matters, floor=floor, records=records, is_harm=is_harm,
        population=population, what=what, evidence=evidence or {},
    )  # fmt: skip


def _moved(counts: Counts, reference: Counts) -> str:
    """Which bin gained most, in words."""
    now, then = counts / max(int(counts.sum()), 1), reference / max(int(reference.sum()), 1)
    most, last = int(np.argmax(now - then)), len(counts) - 1
    names = {0: "below all of training", last - 1: "above all of training", last: "missing"}
    return f"{names.get(most, f'bin {most}')} holds {now[most]:.1%} instead of {then[most]:.1%}"


def _rounded(shares: Shares) -> dict[str, float]:
    return {name: round(share, 5) for name, share in shares.items()}
