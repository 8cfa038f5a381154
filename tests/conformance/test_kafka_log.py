"""What only a real broker does: forget the past, refuse a record in the middle of a transaction."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from confluent_kafka import KafkaError, TopicPartition
from log_worlds import OPENED, PARTITIONS, KafkaLogWorld, Member, until

from services.mesh.adapters.kafka_follower import TopicFollower
from services.mesh.adapters.kafka_journal import KafkaJournal
from services.mesh.adapters.kafka_log import KafkaLog
from services.mesh.errors import Fatal, Transient
from services.mesh.ports import CommittedOffset, OutRecord
from services.platform.servers import Servers

pytestmark = pytest.mark.connected


@pytest.fixture
def world(servers: Servers, own_name: str) -> Iterator[KafkaLogWorld]:
    made = KafkaLogWorld(servers.endpoints.kafka, own_name)
    yield made
    while OPENED:
        OPENED.pop().close()
    made.close()


def joined(log: KafkaLog) -> Member:
    member = Member(log)
    until(lambda: len(member.owned) == PARTITIONS, member)
    return member


def forget_below(world: KafkaLogWorld, partition: int, offset: int) -> None:
    for done in world.admin.delete_records([TopicPartition(world.input, partition, offset)]).values():
        done.result(10)


def test_retention_that_overtook_the_group_is_fatal_not_a_silent_gap(world: KafkaLogWorld) -> None:
    world.produce(0, [b"a"] * 10)
    member = joined(world.log())
    until(lambda: len(member.records) == 10, member)
    member.log.commit([], {0: CommittedOffset(3, "")})
    member.log.close()
    forget_below(world, 0, 5)
    again = Member(world.log())
    with pytest.raises(Fatal, match="retention was shorter than the outage"):
        until(lambda: bool(again.records), again)


def test_a_new_group_begins_where_the_log_begins(world: KafkaLogWorld) -> None:
    world.produce(0, [b"a"] * 10)
    forget_below(world, 0, 5)
    member = joined(world.log())
    until(lambda: len(member.records) == 5, member)
    assert member.records[0].offset == 5


def test_a_member_that_restarts_in_the_middle_of_a_handover_leaves_no_partition_to_nobody(world: KafkaLogWorld) -> None:
    """The newcomer asks, and the one who has everything restarts (or fails) before it lets go of anything."""
    first = joined(world.log("0"))
    second = Member(world.log("1"))
    asked_until_s = time.monotonic() + 3  # three heartbeats, at one of which the first's client hears of the rebalance
    while not second.told and time.monotonic() < asked_until_s:
        second.turn()
    first.log.close()
    first = Member(world.log("0"))
    until(lambda: len(first.owned) == len(second.owned) == PARTITIONS // 2, first, second)
    assert sorted([*first.owned, *second.owned]) == list(range(PARTITIONS))


def test_a_slot_that_restarts_with_one_more_input_is_given_it(world: KafkaLogWorld) -> None:
    joined(world.log()).log.close()
    wider = Member(KafkaLog(world.bootstrap, world.name, [world.input, world.output], "0"))
    until(lambda: len(wider.owned) == 2 * PARTITIONS, wider)


def test_a_replay_from_before_the_log_begins_is_fatal_from_0_it_is_not(world: KafkaLogWorld) -> None:
    world.produce(0, [b"a"] * 10)
    forget_below(world, 0, 5)
    log = world.log()
    with pytest.raises(Fatal, match="rebuilt from what there is"):
        list(log.read(0, 2, 8))
    assert [record.offset for batch in log.read(0, 0, 8) for record in batch] == [5, 6, 7]


def test_who_reads_a_whole_topic_begins_where_the_log_begins(world: KafkaLogWorld) -> None:
    world.produce(0, [b"%d" % number for number in range(10)])
    forget_below(world, 0, 5)
    journal = KafkaJournal(world.bootstrap, world.input, "journal")
    assert [record.value for record in journal.read_to_end()] == [b"%d" % number for number in range(5, 10)]
    journal.close()
    with closing(TopicFollower(world.bootstrap, world.input, "follower")) as follower:
        assert sorted(follower.to_end()) == [b"%d" % number for number in range(5, 10)]


def test_an_output_that_is_too_large_is_fatal_and_takes_its_transaction_along(world: KafkaLogWorld) -> None:
    world.produce(0, [b"a"])
    member = joined(world.log())
    until(lambda: bool(member.records), member)
    fits, does_not = (OutRecord(world.output, b"k", b"x" * size, 0, []) for size in (10, 20_000_000))
    with pytest.raises(Fatal, match=r"max\.message\.bytes"):
        member.log.commit([fits, does_not], {0: CommittedOffset(1, "")})
    member.log.close()
    assert world.everything() == []
    again = joined(world.log())
    assert again.owned[0] == CommittedOffset(None, "")


def test_metadata_beyond_the_brokers_limit_moves_nothing(world: KafkaLogWorld) -> None:
    world.produce(0, [b"a"])
    member = joined(world.log())
    until(lambda: bool(member.records), member)
    with pytest.raises(Exception, match=r"(?i)metadata"):
        member.log.commit([OutRecord(world.output, b"k", b"x", 0, [])], {0: CommittedOffset(1, "x" * 4_097)})
    member.log.close()
    assert world.everything() == []


def test_who_was_cut_off_from_the_broker_begins_anew(world: KafkaLogWorld) -> None:
    """Its next commit might wait for ever; the callback is called with what the client says then."""
    world.produce(0, [b"a"])
    log = world.log()
    member = joined(log)
    until(lambda: len(member.records) == 1, member)
    log._note_error(KafkaError(KafkaError._TRANSPORT))
    log.commit([], {0: CommittedOffset(0, "")})
    log._note_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    with pytest.raises(Transient, match="no broker could be reached"):
        log.commit([OutRecord(world.output, b"k", b"v", 0, [])], {0: CommittedOffset(1, "")})
    with pytest.raises(Transient, match="no broker could be reached"):
        log.poll(10, 10)
    log.close()
    log.open()
    again = Member(log)
    until(lambda: len(again.records) == 1, again)
    log.commit([], {0: CommittedOffset(1, "")})
