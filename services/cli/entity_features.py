"""``weir features get``: what is known of one entity right now."""

from __future__ import annotations

import argparse
import math
import time
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from services.cli.shared import add_json, add_mesh, endpoints_of, print_json, print_line, shown_time
from services.features.declared import declared_features
from services.features.layout import unpack
from services.features.state import EntityState
from services.features.stored_mark import read_mark
from services.mesh.adapters.log_reader import LogReader
from services.mesh.adapters.redis_store import RedisStore, connect
from services.mesh.errors import Fatal
from services.mesh.partitioner import Partitioner
from services.mesh.topics import EVENTS, UPDATES_TERMINAL

_INPUTS = {"customer": EVENTS, "terminal": UPDATES_TERMINAL}
_NEVER_MS = -(2**63)
_MARKERS_MAX = 50  # before the mark: its newest record, behind at most so many transaction markers


def fill(parser: argparse.ArgumentParser) -> None:
    """``weir features get``."""
    parser.epilog = "example: weir features get terminal T7 --at '2018-06-01 12:00'"
    parser.add_argument("entity", choices=sorted(_INPUTS), help="customer or terminal")
    parser.add_argument("id", metavar="ID")
    parser.add_argument(
        "--at", metavar="TIME", help="event time, UTC or milliseconds (default: that of the entity's newest event)"
    )
    add_mesh(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Look one entity up in the store."""
    at_ms = None if given.at is None else parse_time_ms(given.at)
    endpoints = endpoints_of(given)
    features, topic = declared_features(), _INPUTS[given.entity]
    view = features.view(given.entity)
    log = LogReader(endpoints.kafka)
    partitions = log.partitions(topic)
    partition = Partitioner(partitions).partition_of(given.id.encode())
    with closing(connect(endpoints.redis)) as client:
        mark, (value,) = RedisStore(client, view.name).peek(partition, [given.id])
    where = (topic.name, partition)
    if mark is None:
        raise Fatal(
            f"the store holds nothing of {topic.name}[{partition}]: it was lost, or nothing has come yet; "
            "`weir status` says whether it is being rebuilt"
        )
    if read_mark(view, partitions, mark.metadata) is None:
        raise Fatal(
            f"the store holds state of another feature set than {features.content_hash} for {topic.name}[{partition}]: "
            "run the weir of the version that is deployed, or deploy this one (it rebuilds the state from the log)"
        )
    if value is None:
        raise Fatal(f"no {given.entity} {given.id} is known, as of {topic.name}[{partition}]@{mark.offset}")
    state = unpack(view, value, given.id)
    as_of_ms = at_ms if at_ms is not None else _newest_ms(state)
    stretch = {where: max(0, mark.offset - _MARKERS_MAX)}, {where: mark.offset}
    appended_ms = max((record.append_time_ms for record in log.read(*stretch)), default=None)
    found = {
        given.entity: given.id,
        "as_of_event_time_ms": as_of_ms,
        "newest_event_time_ms": _newest_ms(state),
        "events_kept": state.exact_events,
        "status": "ok" if state.tiles is None else "saturated",
        "source": {
            "topic": topic.name,
            "partition": partition,
            "offset": mark.offset,
            "records_behind": _behind(log, where, mark.offset, log.ends(topic)[where]),
            "age_ms": None if appended_ms is None else max(0, time.time_ns() // 1_000_000 - appended_ms),
        },
        "features": {name: None if math.isnan(value) else value for name, value in view.read(state, as_of_ms).items()},
    }
    if given.json:
        print_json(found)
    else:
        _show(given.entity, given.id, found)
    return 0


def _behind(log: LogReader, where: tuple[str, int], offset: int, end: int) -> int:
    """Records from ``offset`` on; counted where they are few, because markers of transactions take offsets too."""
    if end - offset > _MARKERS_MAX:
        return end - offset
    return sum(1 for _ in log.read({where: offset}, {where: end}))


def parse_time_ms(text: str) -> int:
    """Unix milliseconds of ``2018-06-01``, ``2018-06-01 12:00``, or of milliseconds; UTC unless it says otherwise."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Fatal(f"--at={text!r}: must be a UTC time such as '2018-06-01 12:00', or Unix milliseconds") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)


def _newest_ms(state: EntityState) -> int:
    """Event time of its newest event; an entity that is stored has had one."""
    tiles_ms = state.tiles.newest_ms if state.tiles is not None else ()
    return max(*state.times_ms[-1:], *tiles_ms[-1:], _NEVER_MS)


def _show(entity: str, id_: str, found: dict[str, Any]) -> None:
    source = found["source"]
    age = "of unknown age" if source["age_ms"] is None else f"appended {source['age_ms'] / 1000:,.1f} s ago"
    print_line(f"{entity} {id_} at event time {shown_time(found['as_of_event_time_ms'])}, {found['status']}")
    print_line(
        f"newest event {shown_time(found['newest_event_time_ms'])}, {found['events_kept']} events kept one by one"
    )
    print_line(
        f"exact as of {source['topic']}[{source['partition']}]@{source['offset']}, whose newest record was {age}; "
        f"{source['records_behind']} records behind the log's end"
    )
    for name, value in found["features"].items():
        print_line(f"  {name:36} {'-' if value is None else f'{value:,.6g}'}")
