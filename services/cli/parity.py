"""``weir parity``: were the served features what the log says? Bit for bit."""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from services.cli.shared import add_json, add_mesh, endpoints_of, plain, print_json, print_line
from services.features.declared import declared_features
from services.features.parity import Parity, ParitySettings, ViewReport
from services.mesh.adapters.log_reader import LogReader, Offsets
from services.mesh.errors import Fatal
from services.mesh.headers import WEIR, find, unpack_hop
from services.mesh.topics import EVENTS, FEATURES, UPDATES_TERMINAL, Topic

_TOPICS = (EVENTS, UPDATES_TERMINAL, FEATURES)
_INPUTS = {"customer": EVENTS, "terminal": UPDATES_TERMINAL}


class Lane(NamedTuple):
    """One topic being read: its batches, and how many of how many records have been."""

    topic: Topic
    batches: Iterator[list[Any]]
    total: int


def fill(parser: argparse.ArgumentParser) -> None:
    """``weir parity``."""
    parser.description = (
        "Replays events.v1 and updates.terminal.v1 through the features' own kernel, from the log's start, "
        "and compares every vector that was served. Exits 1 when one differs."
    )
    parser.epilog = "example: weir parity --sample 10"
    add_mesh(parser)
    add_json(parser)
    parser.add_argument(
        "--from",
        dest="from_",
        type=int,
        default=0,
        metavar="OFFSET",
        help="compare what each partition's input holds from here on; what lies before is applied only (default: 0)",
    )
    parser.add_argument(
        "--sample", type=int, default=1, metavar="N", help="one customer and one terminal in N (default: 1, all)"
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Walk the log once; 0 when nothing differs."""
    if given.sample < 1:
        raise Fatal(f"--sample={given.sample}: must be at least 1 (all)")
    if given.from_ < 0:
        raise Fatal(f"--from={given.from_}: must be an offset, 0 or more")
    log = LogReader(endpoints_of(given).kafka)
    # The last topic's end first: then whatever was served by then has its input in range.
    ends: Offsets = {}
    for topic in reversed(_TOPICS):
        ends |= log.ends(topic)
    starts = log.starts(*_TOPICS)
    cut = {
        view: frozenset(partition for (name, partition), start in starts.items() if name == topic.name and start > 0)
        for view, topic in _INPUTS.items()
    }
    features = declared_features()
    settings = ParitySettings(
        partitions=log.partitions(EVENTS), sample=given.sample, compare_from=given.from_, cut_partitions=cut
    )
    parity = Parity(features, settings)
    started_s = time.monotonic()
    gc.disable()  # nothing here refers in circles, and looking for it through all states costs a fifth of the time
    events = _walk(log, parity, starts, ends)
    seconds = max(1e-9, time.monotonic() - started_s)
    left = parity.left()
    cut_short = any(cut.values())
    strangers = 0 if cut_short else sum(served for _, served in left.values())
    is_equal = not strangers and not any(report.mismatches for report in parity.reports.values())
    if given.json:
        views = {
            view: plain(report) | {"waiting": left[view][0], "without_input": left[view][1]}
            for view, report in parity.reports.items()
        }
        print_json({"equal": is_equal, "events": events, "rate_per_s": round(events / seconds), "views": views})
    else:
        for view, report in parity.reports.items():
            _show(view, report, *left[view])
        print_line(f"{events:,} events in {seconds:.1f} s, {events / seconds:,.0f}/s")
        print_line("equal, bit for bit" if is_equal else "NOT EQUAL")
    return 0 if is_equal else 1


def _walk(log: LogReader, parity: Parity, starts: Offsets, ends: Offsets) -> int:
    """Feed all three topics, side by side, so that little waits for its twin; how many events there were."""
    lanes = [_lane(log, topic, starts, ends) for topic in _TOPICS]
    seen = [0] * len(lanes)
    open_ones = set(range(len(lanes)))
    while open_ones:
        behind = min(open_ones, key=lambda n: (seen[n] / max(1, lanes[n].total), n))
        batch = next(lanes[behind].batches, None)
        if batch is None:
            open_ones.discard(behind)
            continue
        seen[behind] += len(batch)
        _feed(parity, lanes[behind].topic, batch)
    return seen[0]


def _lane(log: LogReader, topic: Topic, starts: Offsets, ends: Offsets) -> Lane:
    first = {where: offset for where, offset in starts.items() if where[0] == topic.name}
    last = {where: ends[where] for where in first}
    return Lane(topic, log.batches(first, last), sum(last.values()) - sum(first.values()))


def _feed(parity: Parity, topic: Topic, batch: list[Any]) -> None:
    for message in batch:
        value, header = message.value(), find(message.headers() or (), WEIR)
        if not value or header is None:
            continue  # no stage wrote it, so no stage took it: its reader put it into dead letters
        place, hop = (message.partition(), message.offset()), unpack_hop(header)
        if topic is EVENTS:
            parity.event(place, message.key() or b"", value, hop)
        elif topic is UPDATES_TERMINAL:
            parity.update(place, message.key() or b"", value, hop)
        else:
            parity.features(place, value, hop)


def _show(view: str, report: ViewReport, waiting: int, without_input: int) -> None:
    statuses = ", ".join(f"{status} {count:,}" for status, count in sorted(report.by_status.items())) or "none"
    print_line(f"{view}: {report.compared:,} compared ({statuses}), {report.mismatches:,} differ")
    for why, count in sorted(report.excluded.items()):
        print_line(f"  {count:,} left out: {why}")
    if waiting:
        print_line(f"  {waiting:,} not served yet, or refused")
    if without_input:
        print_line(f"  {without_input:,} served from input that the log does not hold")
    if report.first is not None:
        first = report.first
        print_line(
            f"  first: event {first.event_id} of customer {first.customer_id} at {_served_topic(view)}"
            f"[{first.partition}]@{first.offset}: {first.feature} was served as {first.served!r}, "
            f"the log says {first.recomputed!r}"
        )


def _served_topic(view: str) -> str:
    return UPDATES_TERMINAL.name if view == "customer" else FEATURES.name
