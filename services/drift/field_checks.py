"""Is the input still what senders used to send? Fields, refusals, sizes and volume against the weeks before. Pure.

The past is the last four weeks, so a change that stays becomes what is usual, and its alert ends.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from services.drift.alerts import NEW
from services.drift.comparing import (
    BASELINE_DAYS_MIN,
    PSI_FLOOR,
    RECORDS_MIN,
    Matters,
    Shares,
    Subject,
    cells_of,
    days_before,
    finding,
    mix,
    window,
)
from services.drift.days import ALL, Days, Tally
from services.drift.distributions import student_quantile, student_survival
from services.drift.finding import Finding
from services.drift.statistics import only_new

# A share of nulls, of refusals, of inexact features has to move by so much before anybody acts on it.
SHARE_FLOOR = 0.02
VOLUME_RATIO_FLOOR = 1.5
NEW_VALUE_RECORDS_MIN = 5
NEW_VALUE_SHARE_MIN = 0.001
CATEGORIES = ("channel", "country", "currency")
OPTIONAL = ("channel", "country", "device_id")
_NEW_VALUES_SHOWN = 5
_WEEKDAY_BASELINE_DAYS = 21
# Nobody's daily volume is steadier than this: a smaller spread is the luck of a short past.
_VOLUME_SPREAD_MIN = 0.03


def check_fields(days: Days, day: int, rate: float) -> Iterator[Finding]:
    """All of it on ``day``. ``rate``: false-alarm rate of a family."""
    yield from _volume(days, day, rate)
    tally, first = window(days, "ingestion", day)
    past = days_before(days, "ingestion", first)
    if len(past) < BASELINE_DAYS_MIN or tally.records < RECORDS_MIN:
        return
    daily = [days.tally("ingestion", [d], cells_of(ALL)) for d in past]
    share = rate / (len(OPTIONAL) + 2 * len(CATEGORIES) + 3)
    for name in OPTIONAL:
        nulls = [_nulls(day_before, name) for day_before in daily]
        yield from mix(_about(f"{name} null", first, day), _nulls(tally, name), nulls, share, _share_matters("null"))
    for name in CATEGORIES:
        now, known = _told(tally, name), [_told(day_before, name) for day_before in daily]
        yield from mix(_about(name, first, day), now, known, share, _mix_matters)
        yield from _new_values(name, now, known, first, day, tally.records)
    refused = [_refused(day_before) for day_before in daily]
    yield from mix(_about("refused", first, day), _refused(tally), refused, share, _share_matters("refused"))
    sizes = [_sizes(day_before) for day_before in daily]
    yield from mix(_about("amount_minor", first, day), _sizes(tally), sizes, share, _mix_matters)
    yield from _inexact(days, day, share)


def _about(name: str, first_day: int, last_day: int, segment: str = ALL) -> Subject:
    return Subject(
        family="fields", kind="data_quality", name=name, segment=segment, first_day=first_day, last_day=last_day
    )


def _inexact(days: Days, day: int, rate: float) -> Iterator[Finding]:
    tally, first = window(days, "scoring", day)
    past = [days.tally("scoring", [d], cells_of(ALL)) for d in days_before(days, "scoring", first)]
    if len(past) >= BASELINE_DAYS_MIN and tally.records >= RECORDS_MIN:
        about = _about("inexact features", first, day)
        yield from mix(about, _exactness(tally), [_exactness(t) for t in past], rate, _share_matters("inexact"))


def _new_values(
    name: str, now: Counter[str], daily: Sequence[Counter[str]], first_day: int, last_day: int, records: int
) -> Iterator[Finding]:
    known = {value for counts in daily for value in counts}
    total = sum(counts.total() for counts in daily)
    fresh = [(count, value) for value, count in now.items() if value not in known and value != "(other)"]
    for count, value in sorted(fresh, reverse=True)[:_NEW_VALUES_SHOWN]:
        least = max(NEW_VALUE_RECORDS_MIN, NEW_VALUE_SHARE_MIN * records)
        yield finding(
            _about(f"{NEW}{name}", first_day, last_day, value),
            statistic="records",
            value=float(count),
            p_value=only_new(count, records, max(total, records)),
            chance=0.0,
            matters=count >= least,
            floor=float(least),
            records=records,
            population=f"{records:,} events; none among {total:,} of the {len(daily)} days before",
            what=f"{count} events have {name}={value}, {count / records:.1%}",
        )


def _volume(days: Days, day: int, rate: float) -> Iterator[Finding]:
    """The day's records against a log-normal law of the days before; weekday by weekday once there are three weeks.

    A t-test of one new value against a sample, on logarithms, variance pooled over weekdays.
    """
    past = days_before(days, "ingestion", day)
    if len(past) < BASELINE_DAYS_MIN:
        return
    counts = {d: days.tally("ingestion", [d], cells_of(ALL)).records for d in [*past, day]}
    logs = {d: math.log(max(count, 0.5)) for d, count in counts.items()}
    period = 7 if len(past) >= _WEEKDAY_BASELINE_DAYS else 1
    groups = [[logs[d] for d in past if d % period == weekday] for weekday in range(period)]
    alike = groups[day % period]
    freedom = len(past) - period
    squares = sum(sum((x - sum(group) / len(group)) ** 2 for x in group) for group in groups)
    usual = sum(alike) / len(alike)
    spread = math.sqrt(max(squares / freedom, _VOLUME_SPREAD_MIN**2) * (1 + 1 / len(alike)))
    ratio = math.exp(logs[day] - usual)
    yield finding(
        Subject(family="volume", kind="data_quality", name="volume", first_day=day, last_day=day),
        statistic="ratio",
        value=ratio,
        p_value=2 * student_survival(abs(logs[day] - usual) / spread, freedom),
        chance=math.exp(student_quantile(rate / 2, freedom) * spread),
        matters=max(ratio, 1 / ratio) >= VOLUME_RATIO_FLOOR,
        floor=VOLUME_RATIO_FLOOR,
        records=counts[day],
        population=f"a day against {len(alike)} like it",
        what=f"{counts[day]:,} events, {ratio:.2f} times the usual {math.exp(usual):,.0f}",
    )


def _share_matters(name: str) -> Matters:
    def matters(now: Shares, before: Shares) -> tuple[bool, str]:
        a, b = now.get(name, 0.0), before.get(name, 0.0)
        return abs(a - b) >= SHARE_FLOOR, f"{name} in {a:.1%} instead of {b:.1%}"

    return matters


def _mix_matters(now: Shares, before: Shares) -> tuple[bool, str]:
    names = sorted({*now, *before}, key=lambda name: -abs(now.get(name, 0.0) - before.get(name, 0.0)))
    shares = [(max(now.get(name, 0.0), 1e-4), max(before.get(name, 0.0), 1e-4)) for name in names]
    distance = sum((a - b) * math.log(a / b) for a, b in shares)
    a, b = now.get(names[0], 0.0), before.get(names[0], 0.0)
    return distance >= PSI_FLOOR, f"{names[0]} {a:.1%} instead of {b:.1%}"


def _nulls(tally: Tally, name: str) -> Counter[str]:
    values = tally.values.get(name, Counter())
    return Counter({"null": values[None], "told": values.total() - values[None]})


def _told(tally: Tally, name: str) -> Counter[str]:
    return Counter({v: count for v, count in tally.values.get(name, Counter()).items() if v is not None})


def _refused(tally: Tally) -> Counter[str]:
    return Counter({"refused": tally.values.get("reject_code", Counter()).total(), "accepted": tally.records})


def _sizes(tally: Tally) -> Counter[str]:
    return Counter({f"2^{digits}": int(count) for digits, count in enumerate(tally.amounts) if count})


def _exactness(tally: Tally) -> Counter[str]:
    return Counter({"inexact": tally.inexact, "exact": tally.records - tally.inexact})
