"""What a run did: ``DATA/summary.json`` for machines, some lines for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from services.mesh.errors import RejectCode
from services.platform.outcome_account import OutcomeLedger
from services.platform.scan import Ledger

if TYPE_CHECKING:  # it brings xgboost, which nobody who starts a mesh should wait for
    from services.platform.quality import Quality


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model, and from which event time on it served."""

    version: str
    from_event_time_ms: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """``ledger`` counts the whole log of the data directory, None when there was no time to read it; the rest is of
    this run.
    """

    ledger: Ledger | None
    rate_per_s: float
    latency_ms: Mapping[str, int | None]
    models: Sequence[ServedModel]  # in the order in which they served
    seconds: float
    quality: Quality | None = None  # where the input tells the truth, and somebody asked for labels


def to_json(summary: Summary) -> str:
    """The file's text; what is not known is null."""
    ledger = summary.ledger
    counts: dict[str, object] = dict.fromkeys(_counts(Ledger())) if ledger is None else _counts(ledger)
    document = {
        **counts,
        "rate_per_s": round(summary.rate_per_s, 1),
        "latency_ms": dict(summary.latency_ms),
        "models": [{"version": m.version, "from": m.from_event_time_ms, "why": m.why} for m in summary.models],
        "seconds": round(summary.seconds, 1),
    }
    if summary.quality is not None:
        document["quality"] = summary.quality.as_json()
    return json.dumps(document, indent=2) + "\n"


def to_text(summary: Summary) -> str:
    """For people, lines of at most 80 characters unless a name is long."""
    lines = _ledger_lines(summary.ledger)
    shown = {name: "-" if value is None else f"{value:,}" for name, value in summary.latency_ms.items()}
    lines += [
        f"rate           {summary.rate_per_s:>10,.1f}  decisions/s, from first to last",
        f"latency        {shown['p50']:>10}  ms p50, p99 {shown['p99']}, p99.9 {shown['p999']}, append to decision",
    ]
    if summary.quality is not None:
        lines += [
            f"quality        {summary.quality.online:>10.4f}  average precision of the recorded scores;"
            f" {summary.quality.offline:.4f} offline, trained weekly on the same",
            f"{'':27}{summary.quality.population}",
        ]
    titles = ["models", *[""] * len(summary.models)]
    for title, model in zip(titles, summary.models, strict=False):
        lines.append(f"{title:13} {model.version} from {_time(model.from_event_time_ms)}: {model.why}")
    return "\n".join(lines) + "\n"


def _counts(ledger: Ledger) -> dict[str, object]:
    settled = ledger.accepted + ledger.raw_rejects + ledger.unjudged
    return {
        "events_in": ledger.events_in,
        "accepted": ledger.accepted,
        # Repeats leave no record of their own: they are what is in no other account.
        "duplicate_events_in": max(0, ledger.events_in - settled),
        "conflicts": ledger.rejects[RejectCode.CONFLICT.value],
        "dead_letters": ledger.dead_letters,
        "rejects": dict(sorted(ledger.rejects.items())),
        "decisions": ledger.decisions,
        "missing": ledger.missing,
        "duplicates": ledger.duplicates + ledger.strangers,
        "undecided_at_stop": ledger.undecided + ledger.unjudged,
        **_outcome_counts(ledger.outcomes),
    }


def _outcome_counts(told: OutcomeLedger | None) -> dict[str, object]:
    if told is None:
        return dict.fromkeys(_outcome_counts(OutcomeLedger()))
    return {
        "outcomes_in": told.outcomes_in,
        "labels": told.labels,
        "outcomes": {
            "accepted": told.accepted,
            "joined": told.joined,
            "pending": told.pending + told.unjudged,
            "orphans": dict(sorted(told.orphans.items())),
            "lost": told.lost + told.strangers,
            "doubled": told.doubled,
            "matured": told.matured,
        },
    }


def _ledger_lines(ledger: Ledger | None) -> list[str]:
    if ledger is None:
        return [
            "counts            unknown  the log is too long to be read within the 10 s of a stop:",
            "                           start again, and run weir status --verify",
        ]
    counts = _counts(ledger)
    codes = ", ".join(f"{code} {count:,}" for code, count in sorted(ledger.rejects.items()))
    lines = [
        f"events in      {ledger.events_in:>10,}  accepted {ledger.accepted:,}, "
        f"duplicates {counts['duplicate_events_in']:,}",
        f"dead letters   {ledger.dead_letters:>10,}  {codes}".rstrip(),
        f"decisions      {ledger.decisions:>10,}  missing {ledger.missing:,}, duplicates {counts['duplicates']:,}, "
        f"undecided at stop {counts['undecided_at_stop']:,}",
        *_outcome_lines(ledger.outcomes),
    ]
    if ledger.unreadable:
        lines.append(
            f"unreadable     {ledger.unreadable:>10,}  records of events.v1 or decisions.v1 that are no events"
        )
    return lines


def _outcome_lines(told: OutcomeLedger | None) -> list[str]:
    if told is None:
        return [
            "outcomes          unknown  too many to be read within the 10 s of a stop:",
            "                           start again, and run weir status --verify",
        ]
    return [
        f"outcomes in    {told.outcomes_in:>10,}  joined {told.joined:,}, pending {told.pending:,}, "
        f"orphans {sum(told.orphans.values()):,}, lost {told.lost:,}",
        f"labels         {told.labels:>10,}  matured {told.matured:,}",
    ]


def _time(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
