"""Exactly once and bit for bit under faults, and that the check would have noticed if it were not so."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from loadtests.exactness import Trial, judge, parse, report
from services.mesh.adapters.kafka_reader import reader_settings
from services.mesh.topics import DECISIONS
from services.platform.servers import Servers, running

pytestmark = [pytest.mark.connected, pytest.mark.faults, pytest.mark.timeout(600)]

DAYS = 2
ARGUMENTS = ["--days", str(DAYS), "--kills", "3", "--losses", "1", "--instances", "3", "--fault-every-s", "2"]
PARTITION = 0


def mix_up_customers(url: str) -> int:
    """Give every customer of one partition the stored state of another one: valid values, of the wrong entity."""
    with redis.Redis.from_url(url) as client:
        keys = sorted(client.scan_iter(match=f"{{customer:{PARTITION}}}:*", count=1_000))
        values = client.mget(keys)
        client.mset(dict(zip(keys, values[1:] + values[:1], strict=True)))
    return len(keys)


def repeat_a_decision(kafka: str) -> None:
    consumer = Consumer(reader_settings(kafka, "test.repeat"))
    consumer.assign([TopicPartition(DECISIONS.name, PARTITION, 0)])
    decision = consumer.consume(1, 20)[0]
    consumer.close()
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(DECISIONS.name, decision.value(), decision.key(), PARTITION)
    assert producer.flush(20) == 0


def delete_decisions(kafka: str, before_offset: int) -> None:
    where = TopicPartition(DECISIONS.name, PARTITION, before_offset)
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_records([where])[where].result(20)


def mix_up_and_go_on(trial: Trial, servers: Servers) -> None:
    """Damage the stored state between two lives of the stage that reads it, then send one more day."""
    names = [name for name in trial.stages if name.startswith("features-customer")]
    servers.supervisor.stop_children(names)
    assert mix_up_customers(servers.endpoints.redis) > 100
    for name in names:
        servers.supervisor.restart(name)
    servers.supervisor.wait_healthy(names)
    trial.send(DAYS + 1, outcomes_share=0)


def test_holds_under_faults_and_damage_is_noticed(tmp_path: Path) -> None:
    given = parse(ARGUMENTS)
    with running(tmp_path / "data") as servers:
        kafka = servers.endpoints.kafka
        trial = Trial(given, servers)
        trial.start()
        trial.send(DAYS, given.outcomes_share)
        verdict = judge(given, kafka, trial.settled())
        report(given, trial, verdict)
        assert verdict.holds
        assert (len(trial.kills), trial.losses) == (3, 1)
        assert trial.outcomes > 100
        assert verdict.comparisons["terminal"].labels > 100
        assert verdict.ledger.rejects  # the input was not clean

        mix_up_and_go_on(trial, servers)
        wrong = judge(given, kafka, trial.settled())
        assert wrong.comparisons["customer"].different > 100
        assert (wrong.ledger.missing, wrong.ledger.duplicates) == (0, 0)
        assert not wrong.holds

        servers.supervisor.stop_children(trial.stages)
        repeat_a_decision(kafka)
        doubled = trial.settled()
        assert (doubled.missing, doubled.duplicates) == (0, 1)
        delete_decisions(kafka, before_offset=5)
        lost = trial.settled()
        assert 1 <= lost.missing <= 5  # commit markers take offsets, too
        assert lost.duplicates in (0, 1)
