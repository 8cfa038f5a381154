"""Kafka's own console consumer reads a record of every topic, with the formatter file that people are given."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from services.mesh.adapters.registry import Registry
from services.mesh.codec import Codec, schema
from services.mesh.errors import Poison, RejectCode
from services.mesh.ports import InRecord
from services.mesh.stage import Emit, dead_letter
from services.mesh.topics import DEAD_LETTERS, EVENTS_RAW, TOPICS, Topic
from services.platform.contracts import register_schemas
from services.platform.kafka_tools import NATIVE_API, tool_argv
from services.platform.registry_server import CONFLUENT_API
from services.platform.servers import Servers

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/contracts"))  # the examples of schemas/ are read there

from example_files import examples  # noqa: E402

pytest_plugins = ["fresh_registry"]
pytestmark = pytest.mark.connected
FORMATTER = ROOT / "infra/kafka/avro-formatter.properties"
CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
WAIT_MS = 20_000  # for the last record; the JVM and eleven topics take about four seconds on two busy cores
BYTES_FIELDS = {"vector", "customer_vector", "signature", "model", "fallback_model"}  # printed as text by Avro


def sample(topic: Topic) -> tuple[Emit, dict[str, Any]]:
    """A record of ``topic``, as it is produced and as it was meant."""
    if topic is DEAD_LETTERS:
        return refused_event()
    file = topic.schemas[0]
    record = next(iter(examples(file).values()))
    return Emit(topic.name, topic.name.encode(), Codec(file).encode(record), None, 0), record


def file_of(topic: Topic) -> str:
    return (topic.schemas or EVENTS_RAW.schemas)[0]


def refused_event() -> tuple[Emit, dict[str, Any]]:
    """A dead letter: an Avro event with its own bytes, and what was wrong with it in added headers."""
    file = EVENTS_RAW.schemas[0]
    record = next(iter(examples(file).values())) | {"amount_minor": -5}
    poison = Poison(RejectCode.OUT_OF_RANGE, "amount_minor=-5: must be 0 or more", "amount_minor")
    came = InRecord(EVENTS_RAW.name, 0, 42, 0, DEAD_LETTERS.name.encode(), Codec(file).encode(record), [])
    return dead_letter(came, 0, "ingestion", poison), record


@pytest.fixture(scope="module")
def printed(servers: Servers, fresh_registry: str) -> dict[str, tuple[str, Any]]:
    """Topic (each record's key names it) -> headers and value, as one run of the console consumer printed them."""
    prefix = f"console-{uuid.uuid4().hex[:8]}"
    with Registry(fresh_registry) as registry:
        register_schemas(registry)
    produce_samples(servers.endpoints.kafka, prefix)
    run = console_consumer(servers, f"{prefix}\\..*", fresh_registry.replace(CONFLUENT_API, NATIVE_API))
    assert run.returncode == 0, run.stderr
    lines = [line.split("\t", 2) for line in run.stdout.splitlines()]
    return {key: (headers, json.loads(value)) for headers, key, value in lines}


def console_consumer(servers: Servers, include: str, registry_url: str) -> subprocess.CompletedProcess[str]:
    argv = tool_argv(
        servers.jars, CONSUMER, "--bootstrap-server", servers.endpoints.kafka, "--include", include,
        "--from-beginning", "--max-messages", str(len(TOPICS)), "--timeout-ms", str(WAIT_MS),
        "--command-property", "isolation.level=read_committed", "--formatter-config", str(FORMATTER),
        "--formatter-property", f"value.deserializer.apicurio.registry.url={registry_url}",
    )  # fmt: skip
    return subprocess.run(argv, capture_output=True, text=True, timeout=90)


def produce_samples(bootstrap: str, prefix: str) -> None:
    """One record a topic, into topics of our own names: others of this run read and write the real ones."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = [NewTopic(f"{prefix}.{topic.name}", 1, 1, config=topic.config()) for topic in TOPICS]
    for created in admin.create_topics(wanted).values():
        created.result(20)
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": prefix, "message.max.bytes": 16_777_216})
    producer.init_transactions(20)
    producer.begin_transaction()
    for topic in TOPICS:
        emit, _ = sample(topic)
        producer.produce(f"{prefix}.{topic.name}", emit.value, emit.key, headers=list(emit.headers))
    producer.commit_transaction(20)


def comparable(value: Any) -> Any:
    """Without bytes, and floats as Avro's float holds them (Java prints the shortest text that is the same float)."""
    if isinstance(value, float):
        return float(np.float32(value))
    if isinstance(value, dict):
        return {name: comparable(inner) for name, inner in value.items() if name not in BYTES_FIELDS}
    return [comparable(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_the_console_consumer_prints_a_record_of(topic: Topic, printed: dict[str, tuple[str, Any]]) -> None:
    _, value = printed[topic.name]
    _, meant = sample(topic)
    fields = schema(file_of(topic)).fields
    defaults = {field["name"]: field["default"] for field in fields if "default" in field}
    assert list(value) == [field["name"] for field in fields]
    assert comparable(value) == comparable(defaults | meant)


def test_a_dead_letter_shows_its_cause(printed: dict[str, tuple[str, Any]]) -> None:
    headers, value = printed[DEAD_LETTERS.name]
    for shown in ("error_code:out_of_range", "error_field:amount_minor", "stage:ingestion", "origin_offset:42"):
        assert shown in headers
    assert value["amount_minor"] == -5
