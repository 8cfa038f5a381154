"""What drift knows, for machines (``drift.json``) and people (``drift.html``, one page that needs nothing else)."""

from __future__ import annotations

import dataclasses
import os
from html import escape
from pathlib import Path
from typing import Any, Final

import orjson

from services.drift.alerts import threshold_of
from services.drift.comparing import PSI_FLOOR, cells_of
from services.drift.days import ALL, DAY_MS, Days
from services.drift.finding import Finding, shown_day
from services.drift.label_checks import promised
from services.drift.labels import POPULATIONS, LabelBook
from services.drift.monitor import Check, Monitor
from services.drift.plots import Line, line_chart, value_map
from services.drift.statistics import estimated_at_budget
from services.mesh.records import DriftAlert

JSON_FILE: Final = "drift.json"
HTML_FILE: Final = "drift.html"
_ALERTS_SHOWN: Final = 200
_DAYS_SHOWN: Final = 120

_STYLE = """
:root { --ink: #1c2430; --paper: #fbfbf8; --faint: #8a929e; --line: #dfe2e6; --calm: #2b6cb0; --alarm: #c53030; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e6ea; --paper: #15191f; --faint: #8a929e; --line: #2c333d; --calm: #63a4e0; --alarm: #fc6d6d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
       max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem }
p.about, td.faint { color: var(--faint) } svg { width: 100%; height: auto; overflow: visible }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
td, th { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line) }
.grid { stroke: var(--line) } .mark { stroke: var(--alarm); stroke-width: 1.5; stroke-dasharray: 3 3 }
.axis { fill: var(--faint); font-size: 10px } .legend { font-size: 11px }
.raised { color: var(--alarm) }
"""


def write_report(monitor: Monitor, directory: Path) -> None:
    """Both files, each whole or not at all."""
    document = report_of(monitor)
    _write(directory / JSON_FILE, orjson.dumps(document, option=orjson.OPT_INDENT_2))
    _write(directory / HTML_FILE, page_of(document).encode())


def report_of(monitor: Monitor) -> dict[str, Any]:
    """Everything, as JSON takes it."""
    settings, models = monitor.settings, monitor.models
    known = models.get(models.champion)
    checks = monitor.checks[-_DAYS_SHOWN:]
    return {
        "event_time_ms": monitor.clock_ms,
        "settings": {
            "false_alarms_per_week": settings.false_alarms_per_week,
            "budget_per_day": settings.budget_per_day,
            "label_horizon_ms": monitor.labels.horizon_ms,
        },
        "rate_of_a_family": monitor.rate,
        "model": {
            "champion": models.champion,
            "since_ms": models.champion_since_ms,
            "has_reference": known is not None and known.reference is not None,
        },
        "coverage": {
            stage: {"offsets_covered": found.counted, "uncounted_at_most": found.missing, "repeats": found.repeats}
            for stage, found in sorted(monitor.days.coverage.items())
        },
        "labels": {"taken": monitor.labels.labels, "repeats": monitor.labels.repeats},
        "alerts_open": monitor.ledger.open,
        "alerts": monitor.ledger.history[-_ALERTS_SHOWN:],
        "latest": [_finding(found) for found in monitor.latest],
        "days": [_day(monitor, check) for check in checks],
    }


def _day(monitor: Monitor, check: Check) -> dict[str, Any]:
    """One checked day: its values, and precision at the budget as promised, estimated, and later realised."""
    days: Days = monitor.days
    book: LabelBook = monitor.labels
    known = monitor.models.get(check.model_version)
    scores = days.tally("scoring", [check.day], cells_of(ALL)).all_scores()
    estimated = estimated_at_budget(scores.counts, scores.sums, scores.variances, book.budget)
    has_model = known is not None and known.reference is not None
    validated = promised(days, known, (check.day, check.day), book.budget) if known is not None and has_model else None
    realised: dict[str, Any] = {}
    for population in POPULATIONS:
        at = book.at_budget(population, check.day, check.day)
        if at.records and (population == "reviewed" or book.has_matured(check.day, check.records)):
            realised[population] = {
                "precision": at.frauds / at.records, "labelled": at.records,
                "age_days": (monitor.clock_ms - (check.day + 1) * DAY_MS) / DAY_MS,
            }  # fmt: skip
    return {
        "day": shown_day(check.day),
        "records": check.records,
        "model_version": check.model_version,
        "values": check.values,
        "loud": check.loud,
        "estimated": dataclasses.asdict(estimated) if estimated is not None and has_model else None,
        "validated": validated.precision if validated is not None else None,
        "realised": realised,
    }


def _finding(found: Finding) -> dict[str, Any]:
    plain = dataclasses.asdict(found)
    del plain["evidence"]
    return plain | {
        "first_day": shown_day(found.first_day), "last_day": shown_day(found.last_day),
        "threshold": threshold_of(found),
    }  # fmt: skip


def page_of(document: dict[str, Any]) -> str:
    """The page for people."""
    days = [day["day"] for day in document["days"]]
    marks = {
        days.index(day): alert["text"]
        for alert in document["alerts"]
        if alert["status"] == "raised" and (day := shown_day(alert["window_end_ms"] // DAY_MS - 1)) in days
    }
    event_time = shown_day(document["event_time_ms"] // DAY_MS)
    model, settings = document["model"], document["settings"]
    uncounted = ", ".join(f"{s} {c['uncounted_at_most']:,}" for s, c in document["coverage"].items())
    sections = [
        f"<h1>Drift</h1><p class=about>Event time {event_time}. Model {escape(model['champion'])}"
        f"{'' if model['has_reference'] else ', without a reference'}. "
        f"{settings['false_alarms_per_week']:g} false alarms a week are tolerated. "
        f"Handled and never counted, at most: {uncounted or 'nothing'}.</p>",
        "<h2>Alerts that hold</h2>" + _alerts(document["alerts_open"]),
        f"<h2>Precision at {settings['budget_per_day']} alerts a day</h2>" + _precision(document, days, marks),
        "<h2>Distance of features from training (PSI)</h2>" + _psi_map(document, days),
        "<h2>Distance of scores from validation (PSI)</h2>"
        + line_chart("score", days, [_values(document, "score_shift:score:all", "PSI")], marks, percent=False),
        "<h2>Events a day</h2>"
        + line_chart("events", days, [Line(name="events", color="var(--calm)", values=_records(document))], marks,
                     percent=False),
        "<h2>All alerts</h2>" + _alerts(document["alerts"][::-1]),
    ]  # fmt: skip
    body = "\n".join(sections)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Drift, {event_time}</title>'
        f"<style>{_STYLE}</style><body>{body}</body></html>\n"
    )


def _precision(document: dict[str, Any], days: list[str], marks: dict[int, str]) -> str:
    estimated = [day["estimated"] for day in document["days"]]
    lines = [
        Line(name="validated", color="var(--faint)", dotted=True, values=[d["validated"] for d in document["days"]]),
        Line(
            name="estimated without labels", color="#b7791f",
            values=[None if e is None else e["precision"] for e in estimated],
            errors=[None if e is None else e["error"] for e in estimated],
        ),
    ]  # fmt: skip
    for population, color in (("reviewed", "var(--calm)"), ("matured", "#2f855a")):
        realised = [day["realised"].get(population) for day in document["days"]]
        values = [None if r is None else r["precision"] for r in realised]
        lines.append(Line(name=f"realised, {population}", color=color, values=values))
    return line_chart("precision", days, lines, marks, percent=True)


def _psi_map(document: dict[str, Any], days: list[str]) -> str:
    names = sorted({k for d in document["days"] for k in d["values"] if k.startswith("feature_shift:")})
    rows = {name.split(":")[1]: [day["values"].get(name) for day in document["days"]] for name in names}
    return value_map("PSI by feature", days, rows, PSI_FLOOR)


def _values(document: dict[str, Any], key: str, name: str) -> Line:
    return Line(name=name, color="var(--calm)", values=[day["values"].get(key) for day in document["days"]])


def _records(document: dict[str, Any]) -> list[float | None]:
    return [float(day["records"]) for day in document["days"]]


def _alerts(alerts: list[DriftAlert]) -> str:
    if not alerts:
        return "<p class=about>None.</p>"
    rows = "".join(
        f"<tr><td class={escape(a['status'])}>{escape(a['status'])}</td><td>{escape(a['kind'])}"
        f"{' (harm)' if a['is_harm'] else ''}</td><td>{escape(a['text'])}</td>"
        f"<td class=faint>{escape(a['action'])}</td></tr>"
        for a in alerts
    )
    return f"<table>{rows}</table>"


def _write(file: Path, content: bytes) -> None:
    temporary = file.with_suffix(f"{file.suffix}.new")
    temporary.write_bytes(content)
    os.replace(temporary, file)
