"""``weir dead-letters``: what was refused, why, and sending it once more after the cause is mended."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from confluent_kafka import KafkaException, Producer

from services.cli.shared import Commands, add_json, add_mesh, endpoints_of, print_json, print_line, shown_time
from services.mesh.adapters.log_reader import LogReader, Offsets
from services.mesh.errors import Fatal, RejectCode, Transient
from services.mesh.headers import WEIR
from services.mesh.hops import CAUSE_HEADERS, cause_of
from services.mesh.lookup_entries import Place, ids_in
from services.mesh.ports import Header, InRecord
from services.mesh.topics import DEAD_LETTER_BYTES_MAX, DEAD_LETTERS, EVENTS_RAW, OUTCOMES_RAW

RAW_TOPICS = frozenset({EVENTS_RAW.name, OUTCOMES_RAW.name})
_PLACE = re.compile(r"(\d{1,5}):(\d{1,18})")
_STRETCH = 2_000  # offsets looked at in one step backwards
_SHOWN_BYTES_MAX = 4_096
_IN_FLIGHT_MAX = 10_000
_FLUSH_S_MAX = 30.0


def add(commands: Commands) -> None:
    """``weir dead-letters``."""
    parser = commands.add_parser(
        "dead-letters",
        help="what was refused and why; send it once more",
        epilog="example: weir dead-letters list --code malformed_json --limit 5",
    )
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
    found = _newest(log, given.code, given.limit)
    if given.json:
        print_json([_described(record) for record in found])
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
    record = _at(LogReader(endpoints_of(given).kafka), _place(given.place))
    described = _described(record)
    if given.json:
        print_json(described)
        return 0
    for name, text in described["cause"].items():
        print_line(f"{name:17} {text}")
    print_line(f"{'refused':17} {shown_time(record.append_time_ms)}")
    print_line(f"{'key':17} {described['key']}")
    for name, text in described["headers"]:
        print_line(f"{'header':17} {name}: {text}")
    print_line(
        f"{'value':17} {len(record.value or b'')} bytes" if record.value is not None else "value             none"
    )
    print_line(described["value"][:_SHOWN_BYTES_MAX])
    return 0


def run_requeue(given: argparse.Namespace) -> int:
    """Send what was chosen once more; counts by code."""
    if not (given.places or given.code or given.all):
        raise Fatal("nothing chosen: name dead letters (PARTITION:OFFSET), a --code, or --all")
    kafka = endpoints_of(given).kafka
    log = LogReader(kafka)
    if given.places:
        chosen: Iterator[InRecord] = iter([_at(log, _place(text)) for text in given.places])
    else:
        chosen = log.read(log.starts(DEAD_LETTERS), log.ends(DEAD_LETTERS))
    sent: Counter[str] = Counter()
    left: Counter[str] = Counter()
    sender = None if given.dry_run else _Sender(kafka)
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
    if given.json:
        print_json({"dry_run": given.dry_run, "sent": dict(sent), "left": dict(left)})
        return 0
    verb = "would be sent" if given.dry_run else "sent"
    by_code = ", ".join(f"{code} {count:,}" for code, count in sorted(sent.items()))
    print_line(f"{sent.total():,} {verb} once more{': ' + by_code if by_code else ''}")
    for topic, count in sorted(left.items()):
        print_line(f"{count:,} left: refused between our own stages ({topic}); replay the log instead")
    return 0


def original_headers(headers: list[Header]) -> list[Header]:
    """The sender's own headers: without the cause, which stands behind them, and without marks of our stages."""
    own = list(headers)
    while own and own[-1][0] in CAUSE_HEADERS:
        own.pop()
    return [(name, value) for name, value in own if name != WEIR]


class _Sender:
    """Produces and waits for every acknowledgement."""

    def __init__(self, kafka: str) -> None:
        settings = {
            "bootstrap.servers": kafka,
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "message.max.bytes": DEAD_LETTER_BYTES_MAX,
            "linger.ms": 20,
        }
        self._producer = Producer(settings)
        self._failure = ""

    def send(self, topic: str, record: InRecord) -> None:
        """Hand one record over."""
        headers: Any = original_headers(list(record.headers))
        while len(self._producer) >= _IN_FLIGHT_MAX:
            self._producer.poll(0.1)
        self._producer.produce(topic, record.value, record.key, headers=headers, on_delivery=self._delivered)
        self._producer.poll(0)

    def finish(self) -> None:
        """Wait for the broker; Transient when it did not take everything."""
        try:
            waiting = self._producer.flush(_FLUSH_S_MAX)
        except KafkaException as error:
            raise Transient(f"sending once more: {error}") from error
        if waiting or self._failure:
            raise Transient(f"sending once more: {self._failure or f'{waiting} not acknowledged'}; do it again")

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failure = self._failure or error.str()


def _newest(log: LogReader, code: str | None, limit: int) -> list[InRecord]:
    """The newest ``limit`` by append time, looking backwards in stretches until no older one can be among them."""
    starts, lasts = log.starts(DEAD_LETTERS), log.ends(DEAD_LETTERS)
    found: list[InRecord] = []
    open_ones = {where for where, end in lasts.items() if end > starts[where]}
    while open_ones:
        firsts: Offsets = {where: max(starts[where], lasts[where] - _STRETCH) for where in open_ones}
        oldest_ms: dict[tuple[str, int], int] = {}
        for record in log.read(firsts, {where: lasts[where] for where in open_ones}):
            oldest_ms.setdefault((record.topic, record.partition), record.append_time_ms)
            if code is None or cause_of(record)["error_code"] == code:
                found.append(record)
        found = sorted(found, key=lambda r: (-r.append_time_ms, r.partition, -r.offset))[:limit]
        lasts = lasts | firsts
        enough_ms = found[-1].append_time_ms if len(found) == limit else -1
        open_ones = {
            where
            for where in open_ones
            if firsts[where] > starts[where] and oldest_ms.get(where, enough_ms) >= enough_ms
        }
    return found


def _place(text: str) -> Place:
    match = _PLACE.fullmatch(text)
    if match is None:
        raise Fatal(f"{text!r}: must be PARTITION:OFFSET, such as 3:41; `weir dead-letters list` prints them")
    return Place(DEAD_LETTERS.name, int(match[1]), int(match[2]))


def _at(log: LogReader, place: Place) -> InRecord:
    end = log.ends(DEAD_LETTERS).get((place.topic, place.partition), 0)
    record = log.one(place) if place.offset < end else None
    if record is None:
        raise Fatal(
            f"{place.partition}:{place.offset}: no dead letter lies there (it may be past retention, or a marker of a "
            "transaction); `weir dead-letters list` prints them"
        )
    return record


def _described(record: InRecord) -> dict[str, Any]:
    ids = ids_in(DEAD_LETTERS.name, record.value, record.headers)
    return {
        "partition": record.partition,
        "offset": record.offset,
        "append_time_ms": record.append_time_ms,
        "cause": cause_of(record),
        "event_id": _text(ids.event_id) if ids else None,
        "customer_id": _text(ids.customer_id) if ids else None,
        "key": _text(record.key),
        "headers": [[name, _text(value)] for name, value in original_headers(list(record.headers))],
        "value": _text(record.value) or "",
        "value_hex": None if record.value is None else record.value.hex(),
    }


def _text(value: bytes | None) -> str | None:
    """Text where it is text, else as Python would write the bytes."""
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return repr(value)
    return text if text.isprintable() else repr(value)
