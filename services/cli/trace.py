"""``weir trace``: everything that happened to one event, hop by hop."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from services.cli.shared import add_json, add_mesh, endpoints_of, print_json, print_line, shown_time
from services.mesh.adapters.event_history import event_history
from services.mesh.adapters.log_reader import LogReader
from services.mesh.adapters.lookup_reader import LOOKUP_FILE
from services.mesh.errors import Fatal
from services.mesh.hops import Hop
from services.mesh.topics import DAY_MS, DECISIONS
from services.platform.observe import Observer

_WIDTH = 116
_INDENT = " " * 6


def fill(parser: argparse.ArgumentParser) -> None:
    """``weir trace``."""
    parser.description = (
        "Finds the event by its id, follows its headers back through every hop, and adds what was refused "
        "and what it turned out to be. Exits 1 when there is no such event."
    )
    parser.epilog = "example: weir trace 1018273 --json"
    add_mesh(parser)
    add_json(parser)
    parser.add_argument("event_id", metavar="EVENT_ID")
    parser.add_argument("--customer", metavar="C", help="when several customers have an event of that id")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Find, walk back, show."""
    kafka = endpoints_of(given).kafka
    events = event_history(
        LogReader(kafka),
        given.data_dir / LOOKUP_FILE,
        given.event_id,
        given.customer,
        lambda: Observer(kafka, given.data_dir / "run").committed(),
    )
    if not events:
        of = f" of customer {given.customer}" if given.customer else ""
        raise Fatal(
            f"event {given.event_id}{of}: neither accepted nor refused, as far as the log still reaches; is the id "
            "right, and has ingestion no lag (`weir status`)?"
        )
    if given.json:
        print_json({"event_id": given.event_id, "events": events})
        return 0
    if len(events) > 1:
        print_line(f"{len(events)} customers have an event {given.event_id}:")
    for event in events:
        _show(given.event_id, event)
    return 0


def _show(event_id: str, event: dict[str, Any]) -> None:
    customer = "unknown customer" if event["customer_id"] is None else f"customer {event['customer_id']}"
    hops: list[Hop] = event["hops"]
    print_line(f"event {event_id} of {customer}")
    for hop in hops:
        when = "" if hop["append_time_ms"] is None else shown_time(hop["append_time_ms"])
        delta = "" if hop.get("delta_ms") is None else f"+{hop['delta_ms']:,} ms"
        print_line(f"  {_place(hop):32} {when}  {delta}")
        for name, value in hop["what"].items():
            _show_value(name, value)
    if hops and hops[-1]["topic"] != DECISIONS.name:
        print_line(f"  on its way: the next stage has not taken it from {hops[-1]['topic']} yet")
    elif hops and hops[0]["append_time_ms"] is not None:
        print_line(f"  decided {hops[-1]['append_time_ms'] - hops[0]['append_time_ms']:,} ms after it came in")
    for letter in event["dead_letters"]:
        origin = f"{letter['origin_topic']}[{letter['origin_partition']}]@{letter['origin_offset']}"
        print_line(f"  {_place(letter):32} {shown_time(letter['append_time_ms'])}")
        print_line(f"{_INDENT}refused by {letter['stage']}: {letter['error_code']} (from {origin})")
        print_line(f"{_INDENT}{letter['error_message']}")
    for said in event["outcomes"]:
        print_line(f"  {_place(said):32} {shown_time(said['append_time_ms'])}")
        print_line(f"{_INDENT}outcome {said.get('label')}, by {said.get('source')}, id {said.get('outcome_id')}")
    for given_up in event["orphans"]:
        print_line(f"  {_place(given_up):32} {shown_time(given_up['append_time_ms'])}")
        print_line(f"{_INDENT}outcome {given_up['outcome_id']} given up: {given_up['orphan_reason']}")
    for known in event["labels"]:
        age_days = known["label_age_ms"] / DAY_MS
        print_line(f"  {_place(known):32} {shown_time(known['append_time_ms'])}")
        print_line(
            f"{_INDENT}label version {known['label_version']}: {known['label']}, {known['label_source']} after "
            f"{age_days:.1f} days"
        )
    if not event["outcomes"] and not event["labels"]:
        print_line("  no outcome yet")


def _place(where: dict[str, Any]) -> str:
    return f"{where['topic']}[{where['partition']}]@{where['offset']}"


def _show_value(name: str, value: object) -> None:
    """One thing that a hop says, on a line of its own or some; what is empty or zero is left out."""
    match value:
        case dict():
            text = "  ".join(f"{key}={part:.6g}" for key, part in value.items() if part)
        case list():
            text = ", ".join(_part(part) for part in value)
        case float():
            text = f"{value:.6g}"
        case _:
            text = str(value)
    if text:
        lines = textwrap.wrap(text, _WIDTH - 20, break_on_hyphens=False) or [text]
        print_line(f"{_INDENT}{name:16} {lines[0]}")
        for line in lines[1:]:
            print_line(f"{_INDENT}{'':16} {line}")


def _part(part: object) -> str:
    """One reason, contribution or challenger."""
    match part:
        case {"code": code, "text": text}:
            return f"{code} ({text})"
        case {"feature": feature, "value": value, "contribution": contribution}:
            return f"{feature}={value:.4g} ({contribution:+.3f})"
        case {"model_version": version, "score": score}:
            return f"{version} {score:.4f}"
        case {"of": of, "text": text, "held": held}:
            return f"{of}: {text} {held}"
        case {"policy_version": version, "action": action}:
            return f"{version} would {action}"
        case _:
            return str(part)
