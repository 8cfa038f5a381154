"""What a run did: ``DATA/summary.json`` for machines, some lines for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.mesh.errors import RejectCode
from services.platform.scan import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model, and from which event time on it served."""

    version: str
    from_event_time_ms: int
    why: str


def summary_of(
    ledger: Ledger,
    rate_per_s: float,
    latency_ms: Mapping[str, int | None],
    models: Sequence[ServedModel],
    seconds: float,
) -> dict[str, object]:
    """The summary. Counts are of the whole log of the data directory, rate and latency of this run."""
    settled = ledger.accepted + ledger.raw_rejects + ledger.unjudged
    return {
        "events_in": ledger.events_in,
        "accepted": ledger.accepted,
        "duplicate_events_in": max(0, ledger.events_in - settled),
        "conflicts": ledger.rejects[RejectCode.CONFLICT.value],
        "dead_letters": ledger.dead_letters,
        "rejects": dict(sorted(ledger.rejects.items())),
        "decisions": ledger.decisions,
        "missing": ledger.missing,
        "duplicates": ledger.duplicates + ledger.strangers,
        "undecided_at_stop": ledger.undecided + ledger.unjudged,
        "rate_per_s": round(rate_per_s, 1),
        "latency_ms": dict(latency_ms),
        "outcomes_in": ledger.outcomes_in,
        "labels": 0,
        "models": [{"version": m.version, "from": m.from_event_time_ms, "why": m.why} for m in models],
        "seconds": round(seconds, 1),
    }


def to_json(summary: Mapping[str, object]) -> str:
    """The file's text."""
    return json.dumps(summary, indent=2) + "\n"


def to_text(summary: Mapping[str, object]) -> str:
    """For people."""
    latency = summary["latency_ms"]
    assert isinstance(latency, Mapping)
    models = summary["models"]
    assert isinstance(models, Sequence)
    served = ", then ".join(str(model["version"]) for model in models) or "none"
    shown = {name: "-" if value is None else f"{value} ms" for name, value in latency.items()}
    return (
        f"events in      {summary['events_in']:>10,}   accepted {summary['accepted']:,}, duplicates "
        f"{summary['duplicate_events_in']:,}, dead letters {summary['dead_letters']:,} "
        f"(conflicts {summary['conflicts']:,})\n"
        f"decisions      {summary['decisions']:>10,}   missing {summary['missing']}, duplicates "
        f"{summary['duplicates']}, undecided at stop {summary['undecided_at_stop']}\n"
        f"rate           {summary['rate_per_s']:>10,} decisions/s, from first to last\n"
        f"latency        {shown['p50']:>10}   p50;  p99 {shown['p99']};  p99.9 {shown['p999']} "
        "(append to visible decision)\n"
        f"outcomes in    {summary['outcomes_in']:>10,}\n"
        f"models         {served}\n"
    )
