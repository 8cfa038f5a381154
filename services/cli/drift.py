"""``weir drift``: which alerts hold, and the report that drift writes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from services.cli.shared import add_json, add_mesh, print_json, print_line, shown_time
from services.mesh.errors import Fatal

_SHOWN_DAYS = 14


def fill(parser: argparse.ArgumentParser) -> None:
    """``weir drift``."""
    parser.epilog = "example: weir drift status"
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    status = actions.add_parser(
        "status", help="alerts that hold, and what they rest on", epilog="example: weir drift status --json"
    )
    status.set_defaults(run=run_status)
    report = actions.add_parser(
        "report",
        help="day by day: precision as promised, estimated and realised, and what was found",
        description="Prints the last two weeks and where the page with plots lies; --json prints all that drift knows.",
        epilog="example: weir drift report",
    )
    report.set_defaults(run=run_report)
    for action in (status, report):
        add_mesh(action)
        add_json(action)


def run_status(given: argparse.Namespace) -> int:
    """Exit status 0 whether or not an alert holds: it is an answer, not a failure."""
    document, _ = _report(given.data_dir)
    kept = ("event_time_ms", "model", "coverage", "labels", "settings", "alerts_open")
    if given.json:
        print_json({name: document[name] for name in kept})
        return 0
    model, settings = document["model"], document["settings"]
    print_line(f"event time   {shown_time(document['event_time_ms'])}")
    print_line(f"model        {model['champion']}" + ("" if model["has_reference"] else "  (no reference)"))
    print_line(f"tolerated    {settings['false_alarms_per_week']:g} false alarms a week")
    for stage, covered in document["coverage"].items():
        print_line(f"{stage:<12} {covered['offsets_covered']:,} offsets covered, {covered['uncounted_at_most']:,} not")
    for alert in document["alerts_open"]:
        print_line(f"{'HARM' if alert['is_harm'] else 'change'}  {alert['text']}")
        print_line(f"        {alert['action']}")
    if not document["alerts_open"]:
        print_line("no alert holds")
    return 0


def run_report(given: argparse.Namespace) -> int:
    """The last days as a table, and the page."""
    document, directory = _report(given.data_dir)
    if given.json:
        print_json(document)
        return 0
    budget = document["settings"]["budget_per_day"]
    print_line(f"precision at {budget} alerts a day")
    print_line(f"{'day':<11} {'events':>8} {'validated':>10} {'estimated':>10} {'reviewed':>9} {'matured':>8}  found")
    for day in document["days"][-_SHOWN_DAYS:]:
        realised = {name: found["precision"] for name, found in day["realised"].items()}
        estimated = day["estimated"]["precision"] if day["estimated"] else None
        print_line(
            f"{day['day']:<11} {day['records']:>8,} {_share(day['validated']):>10} {_share(estimated):>10} "
            f"{_share(realised.get('reviewed')):>9} {_share(realised.get('matured')):>8}  {', '.join(day['loud'])}"
        )
    print_line(f"page with plots: {directory / 'drift.html'}")
    return 0


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _report(data_dir: Path) -> tuple[dict[str, Any], Path]:
    directory = data_dir / "drift"
    try:
        document: dict[str, Any] = json.loads((directory / "drift.json").read_text())
    except FileNotFoundError:
        raise Fatal(
            f"{directory / 'drift.json'}: no report yet; drift writes it after its first day (is --data-dir right?)"
        ) from None
    except ValueError as error:
        raise Fatal(f"{directory / 'drift.json'}: {error}; remove it, drift writes it anew") from error
    return document, directory
