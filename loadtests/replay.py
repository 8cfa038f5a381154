"""How fast features are rebuilt from the log: ``python -m loadtests.replay --help``.

Fills the log of a view (``events.v1``, then ``updates.terminal.v1``) with events inside its windows, says that its
group has decided them all, and starts the view's real stage on an empty Redis: it has to replay everything, through the
real broker into the real store, before it serves. That is the path of a lost Redis, of a new feature set, and of a
backfill. Exit status 1 when a target of the design (section 6) is missed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from prometheus_client.parser import text_string_to_metric_families

from loadtests.generator import settings as producer_settings
from loadtests.payloads import payments
from services.features.definitions import load_feature_set
from services.features.state import EntityState
from services.features.views import CustomerView
from services.mesh.codec import Codec
from services.mesh.errors import Fatal
from services.mesh.headers import TRACEPARENT, WEIR, Hop, pack_hop
from services.mesh.partitioner import Partitioner
from services.mesh.ports import Header, InRecord
from services.mesh.topics import DATA_PARTITIONS_DEFAULT, EVENTS, UPDATES_TERMINAL
from services.mesh.topology import FEATURES_CUSTOMER, FEATURES_TERMINAL, Stage
from services.platform.deploy import deploy
from services.platform.ports import HOST
from services.platform.probes import health_port
from services.platform.servers import Servers, running
from services.platform.stages import health_file, instance_name, stage_specs

EVENTS_PER_S_MIN = 15_000.0
IN_WINDOW_EVENTS = 20_000_000  # what the design speaks of; a laptop's load test takes a share of it
WINDOW_DAYS = 30
_PAYMENTS_PER_CUSTOMER_DAY = 1.92
_SLICE_MIN = 20_000
_LOOK_S = 0.1
_STILL_S_MAX = 60.0
_WAIT_S = 30.0
_DEFINITIONS = "payments/features.yaml"


@dataclass(frozen=True, slots=True)
class Filled:
    """One record as it was put into a topic."""

    topic: str
    key: bytes
    value: bytes
    headers: list[Header]


def fill(kafka: str, events: int, partitions: int, seed: int) -> None:
    """Both views' logs, as ingestion and the customer's view would have written them."""
    partitioner, codec = Partitioner(partitions), Codec(EVENTS.schemas[0])
    definitions = files("schemas").joinpath(_DEFINITIONS).read_text(encoding="utf-8")
    view = CustomerView(load_feature_set(definitions, f"schemas/{_DEFINITIONS}"))
    states: dict[bytes, EntityState] = {}
    offsets = [0] * partitions
    producer = Producer(producer_settings(kafka) | {"linger.ms": 50})
    now_ms = time.time_ns() // 1_000_000
    for key, value in _raw(events, seed):
        partition = partitioner.partition_of(key)
        offset = offsets[partition]
        offsets[partition] += 1
        event = {"currency": "EUR", **orjson.loads(value)}
        event |= {"source_partition": partition, "source_offset": offset, "raw_append_time_ms": now_ms}
        accepted = InRecord(EVENTS.name, partition, offset, now_ms, key, codec.encode(event), ())
        headers: list[Header] = [(TRACEPARENT, b""), (WEIR, pack_hop(Hop(partition, offset, partition, offset, 0)))]
        state = states.get(key)
        if state is None:
            state = states[key] = view.view.new_state()
        update, _ = view.apply(state, accepted, 0)
        state.pending.clear()
        assert update is not None
        _produce(producer, Filled(EVENTS.name, key, accepted.value or b"", headers))
        _produce(producer, Filled(UPDATES_TERMINAL.name, update.key or b"", update.value or b"", headers))
    if left := producer.flush(_WAIT_S):
        raise Fatal(f"filling the logs: the broker did not take {left} records in {_WAIT_S:.0f} s")


def _raw(events: int, seed: int) -> Iterator[tuple[bytes, bytes]]:
    """Payments in slices, so that twenty millions need no memory."""
    place, made = (0, 0), 0
    customers = max(1, round(events / (WINDOW_DAYS * _PAYMENTS_PER_CUSTOMER_DAY)))
    size = max(_SLICE_MIN, events // WINDOW_DAYS)  # a day, because each slice draws its days anew
    while made < events:
        load = payments(f"f{made}", min(size, events - made), place, seed, customers)
        yield from zip(load.keys, load.values, strict=True)
        place, made = load.next_place, made + len(load.values)


def _produce(producer: Any, record: Filled) -> None:
    while True:
        try:
            producer.produce(record.topic, record.value, record.key, headers=record.headers)
            return
        except BufferError:
            producer.poll(0.05)


def decided(kafka: str, stage: Stage, partitions: int) -> int:
    """Put the stage's group at the end of its input, as if it had decided everything; how many records that is."""
    admin = AdminClient({"bootstrap.servers": kafka})
    places = [TopicPartition(stage.consumes.name, partition) for partition in range(partitions)]
    found = admin.list_offsets({place: OffsetSpec.latest() for place in places})
    for place in places:
        place.offset = found[place].result(_WAIT_S).offset
    asked = [ConsumerGroupTopicPartitions(stage.name, places)]
    for future in admin.alter_consumer_group_offsets(asked).values():
        future.result(_WAIT_S)
    return sum(place.offset for place in places)


def rebuild_per_s(servers: Servers, stage: Stage, partitions: int, events: int, entities_max: int) -> float:
    """Start ``stage`` and watch it replay ``events``; events a second, from the first slice to the last."""
    name = instance_name(stage, 0)
    extra = {"WEIR_ENTITIES_MAX": str(entities_max)}
    specs = stage_specs(servers.data, servers.endpoints, partitions, 1, extra)
    servers.supervisor.add(next(spec for spec in specs if spec.name == name))
    servers.supervisor.poll()
    file = health_file(servers.data, name)
    first: tuple[float, float] | None = None
    heard_s, replayed = time.monotonic(), 0.0
    while True:
        time.sleep(_LOOK_S)
        servers.supervisor.poll()
        before, now_s = replayed, time.monotonic()
        replayed, unreachable = _progress(file)
        if replayed > before:
            heard_s = now_s
            first = first or (now_s, replayed)
        if first is not None and replayed >= events and not unreachable:
            servers.supervisor.stop_child(name)
            return (replayed - first[1]) / (now_s - first[0]) if now_s > first[0] else float("inf")
        if now_s - heard_s > _STILL_S_MAX:
            raise Fatal(f"{name} stands still at {replayed:,.0f} of {events:,} replayed events; see its log")


def _progress(file: Path) -> tuple[float, bool]:
    """Events replayed so far, and whether any partition is still out of reach."""
    port = health_port(file)
    if port is None:
        return 0.0, True
    connection = http.client.HTTPConnection(HOST, port, timeout=5.0)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    except OSError:
        return 0.0, True  # not listening yet
    finally:
        connection.close()
    samples = {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples}
    return samples.get("weir_replayed_total", 0.0), samples.get("weir_state_unreachable", 1.0) > 0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.replay",
        description="Measure how fast both feature views rebuild their state from the log.",
        epilog=f"example: python -m loadtests.replay --events {IN_WINDOW_EVENTS} (all of it: 48 minutes, 8 GB)",
    )
    add = parser.add_argument
    add(
        "--events",
        type=int,
        default=300_000,
        help=f"inside the windows (default: 300000; the design: {IN_WINDOW_EVENTS})",
    )
    add("--entities-max", type=int, default=500_000, help="entities a process keeps in memory (default: 500000)")
    add("--partitions", type=int, default=DATA_PARTITIONS_DEFAULT)
    add("--seed", type=int, default=1)
    add("--quick", action="store_true", help="everything small: shows that it works, not how fast")
    add("--no-gate", action="store_true", help="print, and end with status 0 whatever was found")
    add("--json", action="store_true", help="figures as JSON on standard output")
    given = parser.parse_args(arguments)
    if given.quick:
        given.events = 40_000
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the target is met, or none was to be."""
    given = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that the platform stops
    per_s: dict[str, float] = {}
    try:
        with (
            tempfile.TemporaryDirectory(prefix="weir-replay-") as directory,
            running(Path(directory) / "data", lambda name, what: _say(f"{name}: {what}")) as servers,
        ):
            kafka = servers.endpoints.kafka
            deploy(kafka, servers.endpoints.schema_registry, given.partitions)
            _say(f"filling the logs with {given.events:,} events")
            fill(kafka, given.events, given.partitions, given.seed)
            for stage in (FEATURES_CUSTOMER, FEATURES_TERMINAL):
                events = decided(kafka, stage, given.partitions)
                per_s[stage.name] = rebuild_per_s(servers, stage, given.partitions, events, given.entities_max)
                _say(f"{stage.name}: {per_s[stage.name]:,.0f} events/s")
    except Fatal as fatal:
        _say(f"loadtests.replay: {fatal}")
        return 2
    scale = given.events / IN_WINDOW_EVENTS
    if given.json:
        print(json.dumps({"events": given.events, "share_of_design": scale, "events_per_s": per_s}, indent=2))
    else:
        print(f"{given.events:,} events inside the windows: {scale:.1%} of the design's {IN_WINDOW_EVENTS:,}")
        for name, rate in per_s.items():
            word = "met   " if rate >= EVENTS_PER_S_MIN else "MISSED"
            print(f"{word} {name}: {rate:,.0f} events/s (>= {EVENTS_PER_S_MIN:,.0f})")
    return 0 if given.no_gate or all(rate >= EVENTS_PER_S_MIN for rate in per_s.values()) else 1


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
