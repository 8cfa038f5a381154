"""``weir dead-letters``: what was refused, why, and sending it once more after the cause is mended."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator

from services.cli.acting import user_name
from services.cli.audit_trail import audit
from services.cli.shared import add_json, add_mesh, endpoints_of, print_json, print_line, shown_time
from services.mesh.adapters.dead_letter_log import RAW_TOPICS, DeadLetterSender, dead_letter_at, described, newest
from services.mesh.adapters.log_reader import LogReader
from services.mesh.errors import Fatal, RejectCode
from services.mesh.hops import cause_of
from services.mesh.lookup_entries import Place
from services.mesh.ports import InRecord
from services.mesh.topics import DEAD_LETTERS, DECISIONS

_PLACE = re.compile(r"(\d{1,5}):(\d{1,18})")
_SHOWN_BYTES_MAX = 4_096


def fill(parser: argparse.ArgumentParser) -> None:
    """``weir dead-letters``."""
    parser.epilog = "example: weir dead-letters list --code malformed_json --limit 5"
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser(
        "list", help="the newest, one a line", epilog="example: weir dead-letters list --code late --limit 5"
    )
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="at most so many (default: 20)")
    listing.set_defaults(run=run_list)
    show = actions.add_parser("show", help="one, whole", epilog="example: weir dead-letters show 3:41")
    show.add_argument("place", metavar="PARTITION:OFFSET", help="as `list` prints it")
    show.set_defaults(run=run_show)
    requeue = actions.add_parser(
        "requeue",
        help="send refused records once more to the topic that they came to",
        description="Sends the original bytes, key and headers. Only records of events.raw.v1 and outcomes.raw.v1: "
        "what a later stage refused would skip the stages before it. Nothing is marked: doing it twice sends twice. "
        "What was accepted meanwhile is a repeat, which gets no second decision; what is refused again is a new dead "
        "letter.",
        epilog="example: weir dead-letters requeue --code unknown_field --dry-run",
    )
    requeue.add_argument("places", metavar="PARTITION:OFFSET", nargs="*", help="these only")
    requeue.add_argument("--all", action="store_true", help="all of them")
    requeue.add_argument("--dry-run", action="store_true", help="only say what would be sent")
    requeue.set_defaults(run=run_requeue)
    for action in (listing, requeue):
        action.add_argument(
            "--code", choices=[code.value for code in RejectCode], metavar="CODE", help="with this error code"
        )
    for action in (listing, show, requeue):
        add_mesh(action)
        add_json(action)


def run_list(given: argparse.Namespace) -> int:
    """The newest first."""
    if given.limit < 1:
        raise Fatal(f"--limit={given.limit}: must be at least 1")
    log = LogReader(endpoints_of(given).kafka)
    found = newest(log, given.code, given.limit)
    if given.json:
        print_json([described(record) for record in found])
        return 0
    for record in found:
        cause = cause_of(record)
        print_line(
            f"{record.partition}:{record.offset}  {shown_time(record.append_time_ms)}  {cause['error_code']}  "
            f"{cause['origin_topic']}[{cause['origin_partition']}]@{cause['origin_offset']}  {cause['error_message']}"
        )
    if not found:
        print_line("no dead letters" + (f" with code {given.code}" if given.code else ""))
    return 0


def run_show(given: argparse.Namespace) -> int:
    """One record: cause, headers, bytes."""
    record = dead_letter_at(LogReader(endpoints_of(given).kafka), _place(given.place))
    shown = described(record)
    if given.json:
        print_json(shown)
        return 0
    for name, text in shown["cause"].items():
        print_line(f"{name:17} {text}")
    print_line(f"{'refused':17} {shown_time(record.append_time_ms)}")
    print_line(f"{'key':17} {shown['key']}")
    for name, text in shown["headers"]:
        print_line(f"{'header':17} {name}: {text}")
    print_line(
        f"{'value':17} {len(record.value or b'')} bytes" if record.value is not None else "value             none"
    )
    print_line(shown["value"][:_SHOWN_BYTES_MAX])
    return 0


def run_requeue(given: argparse.Namespace) -> int:
    """Send what was chosen once more; counts by code."""
    if not (given.places or given.code or given.all):
        raise Fatal("nothing chosen: name dead letters (PARTITION:OFFSET), a --code, or --all")
    kafka = endpoints_of(given).kafka
    log = LogReader(kafka)
    if given.places:
        chosen: Iterator[InRecord] = iter([dead_letter_at(log, _place(text)) for text in given.places])
    else:
        chosen = log.read(log.starts(DEAD_LETTERS), log.ends(DEAD_LETTERS))
    sent: Counter[str] = Counter()
    left: Counter[str] = Counter()
    sender = None if given.dry_run else DeadLetterSender(kafka)
    for record in chosen:
        cause = cause_of(record)
        if given.code and cause["error_code"] != given.code:
            continue
        if cause["origin_topic"] not in RAW_TOPICS:
            left[cause["origin_topic"]] += 1
            continue
        if sender is not None:
            sender.send(cause["origin_topic"], record)
        sent[cause["error_code"]] += 1
    if sender is not None:
        sender.finish()
        subject = f"dead_letter:{given.places[0]}" if len(given.places) == 1 else "topic:dead-letters.v1"
        detail = {"sent": dict(sent), "places": given.places[:100], "code": given.code}
        audit(kafka, "dead_letter.requeue", subject, actor=user_name("dead-letters"), detail=detail)
    if given.json:
        print_json({"dry_run": given.dry_run, "sent": dict(sent), "left": dict(left)})
        return 0
    verb = "would be sent" if given.dry_run else "sent"
    by_code = ", ".join(f"{code} {count:,}" for code, count in sorted(sent.items()))
    print_line(f"{sent.total():,} {verb} once more{': ' + by_code if by_code else ''}")
    for topic, count in sorted(left.items()):
        or_else = ", or weir webhooks redeliver where a receiver refused it" if topic == DECISIONS.name else ""
        print_line(f"{count:,} left: refused behind ingestion ({topic}); replay the log instead{or_else}")
    return 0


def _place(text: str) -> Place:
    match = _PLACE.fullmatch(text)
    if match is None:
        raise Fatal(f"{text!r}: must be PARTITION:OFFSET, such as 3:41; `weir dead-letters list` prints them")
    return Place(DEAD_LETTERS.name, int(match[1]), int(match[2]))
