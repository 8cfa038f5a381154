"""Reads what bounds a policy: thresholds, review by people, fuses, and the shares that chance lets through."""

from __future__ import annotations

import math
from typing import Literal

from services.decisions.declared import (
    ControlGroup,
    Cuts,
    ExpectedLoss,
    Fuse,
    Limit,
    Passthrough,
    Review,
    Thresholds,
)
from services.decisions.document import Scalar, Section
from services.decisions.document import Sequence as Items
from services.decisions.expression import Condition
from services.decisions.mistakes import shown, suggest
from services.decisions.reading import IDENTIFIER, NAME_REMEDY, Reader, action_named
from services.decisions.verdict import Reason
from services.decisions.wording import number_text
from services.mesh.currency import EXPONENTS

SEGMENTS_MAX = 64  # a segment's index travels in one byte, and nobody tunes more by hand
SHARE_MAX = 0.2  # of declines let through, or customers held out; more is not a measurement but a hole
LOSS_MAX = 1e9  # in major units; nobody expects to lose more on one payment
REVIEWS_MAX = 1_000_000  # a day; more people than any business has

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SCORED_ACTIONS: tuple[Literal["challenge", "review", "decline"], ...] = ("challenge", "review", "decline")


def segments(policy: Section, reader: Reader) -> tuple[Thresholds, ...]:
    """Read the thresholds: named segments in order, the default last."""
    section = policy.section("thresholds", "write `thresholds:` and below it `default: {review: 0.5, ...}`")
    if section is None:
        return (Thresholds("default"),)
    named: list[Thresholds] = []
    lines: dict[str, int] = {}
    for each in section.sections("segments", "segment"):
        name = each.pattern("name", IDENTIFIER, NAME_REMEDY)
        reader.unique(each, name, lines, "segment")
        when = reader.condition(each, "when", "write the condition under which this segment applies")
        named.append(thresholds(each, f"segment {name}", when))
        each.close()
    if len(named) > SEGMENTS_MAX:
        section.report(section.line("segments"), f"{len(named)} segments; {SEGMENTS_MAX} are allowed, join some")
    default = section.section("default", "write `default: {review: 0.5, decline: 0.9}` for events of no segment")
    section.close()
    last = Thresholds("default")
    if default:
        last = thresholds(default, "the default segment", None)
        default.close()
    return (*named, last)


def thresholds(section: Section, segment: str, when: Condition | None) -> Thresholds:
    """Read the thresholds of one segment: at least one, rising with strictness."""
    loss = section.section("expected_loss") if "expected_loss" in section.node.entries else None
    remedy = "a threshold is a probability above 0 and at most 1, such as 0.9"
    found = cuts(section, segment, 1e-9, 1.0, remedy)
    written = set(SCORED_ACTIONS) & section.node.entries.keys()
    if not written and loss is None:
        section.report(section.head_line, f"{segment} has no threshold; write challenge, review or decline: 0.9")
    return Thresholds(segment, when, found, expected_loss(loss, segment) if loss else None)


def cuts(section: Section, what: str, low: float, high: float, remedy: str) -> Cuts:
    """Read challenge, review and decline as far as they are there: rising with strictness."""
    found: dict[str, float] = {}
    for action in SCORED_ACTIONS:
        cut = section.number(action, low, high, remedy)
        if cut is None:
            continue
        for milder, lower in found.items():
            if lower >= cut:
                section.report(
                    section.line(action),
                    f"{what} has {action}: {cut:g} but {milder}: {lower:g}, which then never acts; "
                    f"put {milder} below {cut:g} or remove it",
                )
        found[action] = cut
    infinity = math.inf
    return Cuts(found.get("challenge", infinity), found.get("review", infinity), found.get("decline", infinity))


def expected_loss(section: Section, segment: str) -> ExpectedLoss:
    """Read thresholds on score times amount, and the currencies that they are meant in."""
    what = f"expected_loss of {segment}"
    remedy = f"write score times amount in major units, above 0 and at most {LOSS_MAX:g}, such as 50"
    found = cuts(section, what, 1e-6, LOSS_MAX, remedy)
    if not set(SCORED_ACTIONS) & section.node.entries.keys():
        section.report(section.head_line, f"{what} has no threshold; write challenge, review or decline: 50")
    currencies: set[str] = set()
    items = section.items("currencies", "write currencies: [EUR], a thousand yen is no loss of a thousand euros")
    for node in items:
        text = node.text if isinstance(node, Scalar) else ""
        if text not in EXPONENTS:
            section.report(node.line, f"currencies of {what} holds {shown(text)}{suggest(text, EXPONENTS)}")
        currencies.add(text)
    if isinstance(section.node.entries.get("currencies"), Items) and not items:
        section.report(section.line("currencies"), f"currencies of {what} is empty; write at least one, such as EUR")
    section.close()
    return ExpectedLoss(found, frozenset(currencies))


def stricter(section: Section, fallback: Thresholds, default: Thresholds) -> None:
    """Refuse a fallback threshold that can never act, because the default's acts before it."""
    for action in SCORED_ACTIONS:
        cut, ordinary = getattr(fallback.cuts, action), getattr(default.cuts, action)
        if math.isfinite(cut) and cut >= ordinary:
            section.report(
                section.line(action),
                f"{action} of the fallback section is {cut:g}, not stricter than the default's {ordinary:g}; "
                f"write less than {ordinary:g} or remove it",
            )


def review(policy: Section, reader: Reader) -> Review:
    """Read what people look at."""
    section = policy.section("review")
    if section is None:
        return Review()
    per_day = section.whole("per_day", 0, REVIEWS_MAX, f"write how many reviews a day, 0 to {REVIEWS_MAX}")
    over = section.choice("over_budget", ("approve", "challenge", "decline"))
    if over and "per_day" not in section.node.entries:
        section.report(section.line("over_budget"), "review has over_budget but no per_day; write per_day: 400")
    high_stakes = limit(section, reader, "high_stakes")
    low_confidence = limit(section, reader, "low_confidence")
    section.close()
    return Review(per_day, action_named(over or "challenge"), high_stakes, low_confidence)


def limit(section: Section, reader: Reader, name: str) -> Limit | None:
    """Read where no machine decides alone."""
    inner = section.section(name)
    if inner is None:
        return None
    when = reader.condition(inner, "when", "write the condition under which a person has to look")
    reason: Reason = (name, inner.text("reason", "write in one sentence what a person should read"))
    inner.close()
    return Limit(when, reason) if when else None


def fuse(policy: Section) -> Fuse:
    """Read when a rule has fired so far above its expected rate that it is stopped."""
    section = policy.section("fuse")
    standard = Fuse()
    if section is None:
        return standard
    window_ms = section.duration_ms("window", 60_000, 30 * DAY_MS, "write 1m to 30d, such as 1h")
    factor = section.number("factor", 1.1, 1_000.0, "write how many times its expected rate is too much, 1.1 to 1000")
    events_min = section.whole(
        "events_min", 1, 10_000_000, "write below how many events a rate says nothing, such as 500"
    )
    cool_down_ms = section.duration_ms("cool_down", 60_000, 30 * DAY_MS, "write 1m to 30d, such as 6h")
    section.close()
    return Fuse(
        window_ms or standard.window_ms,
        factor or standard.factor,
        events_min or standard.events_min,
        cool_down_ms or standard.cool_down_ms,
    )


def passthrough(policy: Section, reader: Reader, name: str) -> Passthrough:
    """Read the share of would-be declines that is let through."""
    section = policy.section("passthrough")
    if section is None:
        return Passthrough(0.0, name)
    share, salt, when = _share(section, reader, "would-be declines to let through")
    return Passthrough(share, salt or name, when)


def control(policy: Section, reader: Reader, name: str) -> ControlGroup:
    """Read the share of customers for whom the policy does not act."""
    section = policy.section("control_group")
    if section is None:
        return ControlGroup(0.0, name)
    share, salt, when = _share(section, reader, "customers for whom the policy does not act")
    return ControlGroup(share, salt or name, when)


def _share(section: Section, reader: Reader, of_what: str) -> tuple[float, str, Condition | None]:
    remedy = f"write the share of {of_what}, from 0 to {SHARE_MAX:g}"
    share = section.number("share", 0.0, SHARE_MAX, remedy)
    if share is None and "share" not in section.node.entries:
        section.report(section.head_line, f"{section.what} has no share; {remedy}")
    salt = section.text("salt")
    when = reader.condition_if_any(section, "when")
    section.close()
    return share or 0.0, salt, when


def velocity(section: Section, features: frozenset[str]) -> str:
    """Read ``velocity: {of, within, at_least}`` of a rule as the condition that it stands for, empty when wrong."""
    inner = section.section("velocity")
    if inner is None:
        return ""
    windows = windows_of(features)
    of = inner.choice("of", windows, "write what is counted, such as of: customer_count")
    within = inner.text("within", "write the window, such as within: 5m")
    delay = inner.text("delay")
    remedy = "write from which value on it hits, such as at_least: 10"
    at_least = inner.number("at_least", 1e-9, 1e12, remedy)
    if at_least is None and "at_least" not in inner.node.entries:
        inner.report(inner.head_line, f"velocity has no at_least; {remedy}")
    inner.close()
    if not of or not within or at_least is None:
        return ""
    wanted = f"{within} with delay {delay}" if delay else within
    known = windows[of]
    if wanted not in known:
        inner.report(inner.line("within"), f"{of} has no window {shown(wanted)}{suggest(wanted, known)}")
        return ""
    return f"{known[wanted]} >= {number_text(at_least)}"


def windows_of(features: frozenset[str]) -> dict[str, dict[str, str]]:
    """Features by what they measure, then by window: customer_count -> 5m -> customer_count_5m."""
    found: dict[str, dict[str, str]] = {}
    for name in sorted(features):
        stem, _, delay = name.partition("_delay_")
        measure, _, window = stem.rpartition("_")
        if measure and window[:-1].isdigit() and window[-1] in "smhd":
            found.setdefault(measure, {})[f"{window} with delay {delay}" if delay else window] = name
    return found
