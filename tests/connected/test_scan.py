"""The scan on the real broker sees what a read_committed consumer sees, and waits for what is being committed."""

from __future__ import annotations

import threading
import time

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from services.mesh.errors import Transient
from services.mesh.topics import Topic
from services.platform.scan import committed_records
from services.platform.servers import Servers

pytestmark = pytest.mark.connected

OPEN_S = 1.5


@pytest.fixture
def topic(servers: Servers, own_name: str) -> Topic:
    admin = AdminClient({"bootstrap.servers": servers.endpoints.kafka})
    admin.create_topics([NewTopic(own_name, 2, 1)])[own_name].result(20)
    return Topic(name=own_name, holds="", schemas=(), key="", owner="")


def transactional(servers: Servers, name: str) -> Producer:
    producer = Producer({"bootstrap.servers": servers.endpoints.kafka, "transactional.id": name})
    producer.init_transactions(20)
    producer.begin_transaction()
    return producer


def values(servers: Servers, topic: Topic, starts: dict[int, int] | None = None) -> list[bytes]:
    return [m.value() for m in committed_records(servers.endpoints.kafka, topic, starts, None)]


def test_aborted_records_are_not_there(servers: Servers, topic: Topic) -> None:
    producer = transactional(servers, topic.name)
    producer.produce(topic.name, b"never", partition=0)
    producer.flush(20)
    producer.abort_transaction(20)
    producer.begin_transaction()
    producer.produce(topic.name, b"kept", partition=0)
    producer.commit_transaction(20)
    assert values(servers, topic) == [b"kept"]


def test_an_open_transaction_is_waited_for(servers: Servers, topic: Topic) -> None:
    producer = transactional(servers, topic.name)
    producer.produce(topic.name, b"late", partition=1)
    assert producer.flush(20) == 0
    closing = threading.Timer(OPEN_S, producer.commit_transaction, (20,))
    began_s = time.monotonic()
    closing.start()
    assert values(servers, topic) == [b"late"]
    assert time.monotonic() - began_s >= OPEN_S
    closing.join()


def test_only_the_partitions_and_offsets_asked_for(servers: Servers, topic: Topic) -> None:
    producer = Producer({"bootstrap.servers": servers.endpoints.kafka})
    for number in range(3):
        producer.produce(topic.name, b"%d" % number, partition=0)
        producer.produce(topic.name, b"other", partition=1)
    assert producer.flush(20) == 0
    assert values(servers, topic, {0: 1}) == [b"1", b"2"]
    assert values(servers, topic, {}) == []


def test_a_deadline_is_kept(servers: Servers, topic: Topic) -> None:
    with pytest.raises(Transient, match="was not read to its end"):
        list(committed_records(servers.endpoints.kafka, topic, None, time.monotonic() - 1))
