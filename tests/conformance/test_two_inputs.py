"""A log of two inputs: owned together, told apart by their number; the twin and the real Kafka, held to the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from log_worlds import OPENED, PARTITIONS, Copier, KafkaLogWorld, LogWorld, Member, MemoryLogWorld, until

from services.mesh.ports import LANE, CommittedOffset

NUMBERS = [input_ * LANE + partition for input_ in range(2) for partition in range(PARTITIONS)]


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.connected)])
def world(request: pytest.FixtureRequest) -> Iterator[LogWorld]:
    if request.param == "memory":
        made: LogWorld = MemoryLogWorld(inputs=2)
    else:
        kafka = request.getfixturevalue("servers").endpoints.kafka
        made = KafkaLogWorld(kafka, request.getfixturevalue("own_name"), inputs=2)
    yield made
    while OPENED:
        OPENED.pop().close()
    made.close()


def owning_all(world: LogWorld) -> Member:
    member = Member(world.log())
    until(lambda: len(member.owned) == len(NUMBERS), member)
    return member


def is_paired(member: Member) -> bool:
    first = {number for number in member.owned if number < LANE}
    return set(member.owned) == first | {LANE + number for number in first}


def test_a_new_group_owns_all_of_both(world: LogWorld) -> None:
    assert owning_all(world).owned == dict.fromkeys(NUMBERS, CommittedOffset(None, ""))


def test_records_say_which_input_they_are_of(world: LogWorld) -> None:
    for number in NUMBERS:
        world.produce(number, [b"%d" % number] * 3)
    member = owning_all(world)
    until(lambda: len(member.records) == 3 * len(NUMBERS), member)
    assert {(record.partition, record.value) for record in member.records} == {(n, b"%d" % n) for n in NUMBERS}
    assert len({record.topic for record in member.records if record.partition >= LANE}) == 1
    assert len({record.topic for record in member.records}) == 2


def test_offsets_and_metadata_of_both_are_committed_as_one(world: LogWorld) -> None:
    world.produce(1, [b"a", b"b"])
    world.produce(LANE + 1, [b"c"])
    member = owning_all(world)
    until(lambda: len(member.records) == 3, member)
    member.commit(member.records, world.output, "m")
    member.log.close()
    again = owning_all(world)
    assert again.owned[1] == CommittedOffset(2, "m")
    assert again.owned[LANE + 1] == CommittedOffset(1, "m")
    assert again.owned[LANE] == CommittedOffset(None, "")
    world.produce(LANE + 1, [b"d"])
    until(lambda: bool(again.records), again)
    assert [(record.partition, record.offset) for record in again.records] == [(LANE + 1, 1)]


def test_who_has_a_partition_of_one_has_it_of_both(world: LogWorld) -> None:
    members = [Copier(world.log("0"), world.output)]
    until(lambda: len(members[0].owned) == len(NUMBERS), members[0])
    for slot in ("1", "2"):
        members.append(Copier(world.log(slot), world.output))
        until(lambda: sum(len(m.owned) for m in members) == len(NUMBERS) and all(m.owned for m in members), *members)
        assert all(is_paired(member) for member in members), [sorted(member.owned) for member in members]
    for number in NUMBERS:
        world.produce(number, [b"x"] * 10)
    until(lambda: len(world.everything()) >= 10 * len(NUMBERS), *members)
    copied = [record.value for record in world.everything()]
    assert len(copied) == len(set(copied)) == 10 * len(NUMBERS)
    assert all(is_paired(member) for member in members)


def test_one_input_can_be_paused(world: LogWorld) -> None:
    member = owning_all(world)
    member.log.pause([LANE, LANE + 1])
    for number in (0, LANE, LANE + 1, LANE + 2):
        world.produce(number, [b"a"])
    until(lambda: len(member.records) == 2, member)
    for _ in range(5):
        member.turn()
    assert {record.partition for record in member.records} == {0, LANE + 2}


def test_reading_a_stretch_of_either(world: LogWorld) -> None:
    world.produce(2, [b"a", b"b"], transactional=True)
    world.produce(LANE + 2, [b"c", b"d", b"e"], transactional=True)
    log = world.log()
    assert [r.value for batch in log.read(2, 0, 9) for r in batch] == [b"a", b"b"]
    found = [r for batch in log.read(LANE + 2, 1, 3) for r in batch]
    assert [(r.partition, r.offset, r.value) for r in found] == [(LANE + 2, 1, b"d"), (LANE + 2, 2, b"e")]
