"""The two chains that are measured side by side, as children of one supervisor: the mesh, and as many bare hops."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka.admin import AdminClient, NewTopic

from loadtests.bare_hop import HOPS, bare_stage, bare_topic
from services.mesh.adapters.kafka_reader import KafkaReader
from services.mesh.ports import InRecord
from services.mesh.topics import DECISIONS, EVENTS_RAW
from services.mesh.topology import EVENT_CHAIN, STAGES
from services.platform.ports import HOST
from services.platform.probes import health_port, http_answers
from services.platform.servers import Servers
from services.platform.stages import STAGES_STOP, health_file, instance_name, stage_specs
from services.platform.supervisor import ChildSpec

START_S_MAX = 120.0
_EVERYTHING = 1 << 62
_SAMPLE = 500
_WAIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A way from an input topic to an output topic, through the processes named."""

    name: str  # "mesh" or "bare"
    source: str  # topics
    target: str
    hops: Mapping[str, Sequence[str]]  # hop -> the supervisor's names of its processes
    beside: Mapping[str, Sequence[str]] = field(default_factory=dict)  # stages that no event waits for; the same


def start_mesh(servers: Servers, partitions: int, instances: int, extra: Mapping[str, str]) -> Chain:
    """Every stage, healthy. The topics must exist."""
    _start(servers, stage_specs(servers.data, servers.endpoints, partitions, instances, extra))
    names = {stage.name: [instance_name(stage, slot) for slot in range(instances)] for stage in STAGES}
    hops = {stage.name: names.pop(stage.name) for stage in EVENT_CHAIN}
    return Chain(name="mesh", source=EVENTS_RAW.name, target=DECISIONS.name, hops=hops, beside=names)


def start_bare(servers: Servers, partitions: int, instances: int, bytes_of_hop: Sequence[int]) -> Chain:
    """As many bare hops as the mesh has stages, with its payload sizes and its instances; healthy."""
    create_bare_topics(servers.endpoints.kafka, partitions)
    specs = [
        _bare_spec(servers, number, slot, bytes_of_hop[number - 1])
        for number in range(1, HOPS + 1)
        for slot in range(instances)
    ]
    _start(servers, specs)
    hops = {
        bare_stage(number).name: [instance_name(bare_stage(number), slot) for slot in range(instances)]
        for number in range(1, HOPS + 1)
    }
    return Chain(name="bare", source=bare_topic(0).name, target=bare_topic(HOPS).name, hops=hops)


def create_bare_topics(kafka: str, partitions: int) -> None:
    """``bare.0`` to ``bare.5``, set up like the mesh's own topics."""
    topics = [bare_topic(number) for number in range(HOPS + 1)]
    made = [NewTopic(topic.name, partitions, 1, config=topic.config()) for topic in topics]
    admin = AdminClient({"bootstrap.servers": kafka})  # kept: its futures end with it
    for future in admin.create_topics(made).values():
        future.result(_WAIT_S)


def payload_bytes(kafka: str) -> list[int]:
    """Mean size of the values that each stage of the mesh writes, in the order of stages, from a sample."""
    means = []
    for stage in EVENT_CHAIN:
        reader = KafkaReader(kafka, stage.produces[0].name, "loadtests.sizes")
        sizes: list[int] = []
        records: list[InRecord]
        for records in reader.read(0, 0, _EVERYTHING):
            sizes += [len(record.value or b"") for record in records]
            if len(sizes) >= _SAMPLE:
                break
        assert sizes, f"{stage.produces[0].name}[0] is empty: the primer did not get there"
        means.append(round(sum(sizes) / len(sizes)))
    return means


def _start(servers: Servers, specs: Sequence[ChildSpec]) -> None:
    for spec in specs:
        servers.supervisor.add(spec)
    servers.supervisor.poll()
    servers.supervisor.wait_healthy([spec.name for spec in specs], START_S_MAX)


def _bare_spec(servers: Servers, number: int, slot: int, size_bytes: int) -> ChildSpec:
    name = instance_name(bare_stage(number), slot)
    file = health_file(servers.data, name)
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)

    def ready() -> bool:
        port = health_port(file)
        return port is not None and http_answers(HOST, port, "/health/ready")

    env = {
        "WEIR_KAFKA": servers.endpoints.kafka,
        "WEIR_SLOT": str(slot),
        "WEIR_HEALTH_FILE": str(file),
        "WEIR_BARE_HOP": str(number),
        "WEIR_BARE_BYTES": str(size_bytes),
    }
    argv = (sys.executable, "-m", "loadtests.bare_hop")
    return ChildSpec(name=name, argv=argv, env=env, health=ready, stop_order=STAGES_STOP, stop_s_max=3.0)
