"""What the mesh relies on in a TransactionalLog and a Journal: the twin and the real Kafka, held to the same facts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from log_worlds import OPENED, PARTITIONS, Copier, KafkaLogWorld, LogWorld, Member, MemoryLogWorld, until

from services.mesh.errors import Fenced, Transient
from services.mesh.ports import CommittedOffset, InRecord


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.connected)])
def world(request: pytest.FixtureRequest) -> Iterator[LogWorld]:
    if request.param == "memory":
        made: LogWorld = MemoryLogWorld()
    else:
        made = KafkaLogWorld(request.getfixturevalue("servers").endpoints.kafka, request.getfixturevalue("own_name"))
    yield made
    while OPENED:
        OPENED.pop().close()
    made.close()


def joined(world: LogWorld, slot: str = "0") -> Member:
    member = Member(world.log(slot))
    until(lambda: member.told, member)
    return member


def owning_all(world: LogWorld) -> Member:
    member = Member(world.log())
    until(lambda: len(member.owned) == PARTITIONS, member)
    return member


def places(records: list[InRecord]) -> list[bytes]:
    return sorted(b"%d:%d" % (record.partition, record.offset) for record in records)


def values(records: list[InRecord]) -> list[bytes | None]:
    return sorted(record.value or b"" for record in records)


def test_a_new_group_owns_all_and_has_nothing_committed(world: LogWorld) -> None:
    member = owning_all(world)
    assert member.owned == dict.fromkeys(range(PARTITIONS), CommittedOffset(None, ""))
    member.log.close()


def test_records_come_whole_and_in_order(world: LogWorld) -> None:
    for partition in range(PARTITIONS):
        world.produce(partition, [b"%d" % n for n in range(30)])
    member = owning_all(world)
    until(lambda: len(member.records) == 30 * PARTITIONS, member)
    for partition in range(PARTITIONS):
        mine = [record for record in member.records if record.partition == partition]
        assert [record.value for record in mine] == [b"%d" % n for n in range(30)]
        assert [record.offset for record in mine] == list(range(30))
    first = member.records[0]
    assert (first.key, list(first.headers)) == (b"k", [("h", b"1")])
    assert first.append_time_ms > 1_600_000_000_000
    member.log.close()


def test_outputs_offsets_and_metadata_are_one(world: LogWorld) -> None:
    world.produce(1, [b"a", b"b"])
    member = owning_all(world)
    until(lambda: len(member.records) == 2, member)
    member.commit(member.records, world.output, "x" * 4_000)
    assert values(world.everything()) == [b"1:0", b"1:1"]
    member.log.close()
    again = owning_all(world)
    assert again.owned[1] == CommittedOffset(2, "x" * 4_000)
    assert again.owned[0] == CommittedOffset(None, "")
    world.produce(1, [b"c"])
    until(lambda: bool(again.records), again)
    assert [record.offset for record in again.records] == [2]
    again.log.close()


def test_a_commit_without_outputs_moves_offsets(world: LogWorld) -> None:
    world.produce(0, [b"a"])
    member = owning_all(world)
    until(lambda: len(member.records) == 1, member)
    member.log.commit([], {0: CommittedOffset(1, "m")})
    member.log.close()
    again = owning_all(world)
    assert again.owned[0] == CommittedOffset(1, "m")
    again.log.close()


def test_what_was_not_committed_comes_again(world: LogWorld) -> None:
    world.produce(2, [b"a", b"b"])
    member = owning_all(world)
    until(lambda: len(member.records) == 2, member)
    member.log.close()
    again = owning_all(world)
    until(lambda: len(again.records) == 2, again)
    again.commit(again.records, world.output)
    assert values(world.everything()) == [b"2:0", b"2:1"]
    again.log.close()


def test_a_log_is_opened_again_after_it_was_closed(world: LogWorld) -> None:
    world.produce(2, [b"a"])
    log = world.log()
    for _ in range(2):
        member = Member(log)
        until(lambda member=member: bool(member.records), member)
        log.close()
    log.close()


def test_a_process_whose_slot_was_taken_is_fenced(world: LogWorld) -> None:
    world.produce(0, [b"a"])
    old = owning_all(world)
    until(lambda: bool(old.records), old)
    new = Member(world.log())
    with pytest.raises(Fenced):
        old.commit(old.records, world.output)
    old.log.close()
    until(lambda: len(new.owned) == PARTITIONS and bool(new.records), new)
    new.commit(new.records, world.output)
    assert values(world.everything()) == [b"0:0"]
    new.log.close()


def test_a_fenced_process_is_told_when_it_only_polls(world: LogWorld) -> None:
    old = owning_all(world)
    new = owning_all(world)
    with pytest.raises(Fenced):
        until(lambda: False, old)
    old.log.close()
    new.log.close()


def test_a_newcomer_takes_over_exactly_where_its_partitions_stand(world: LogWorld) -> None:
    for partition in range(PARTITIONS):
        world.produce(partition, [b"a"] * 5)
    first = Copier(world.log(), world.output, "three", below=3)
    until(lambda: len(world.everything()) == 3 * PARTITIONS, first)
    second = Copier(world.log("1"), world.output)
    until(lambda: len(first.owned) == len(second.owned) == PARTITIONS // 2, first, second)
    assert sorted([*first.owned, *second.owned]) == list(range(PARTITIONS))
    assert set(second.owned.values()) == {CommittedOffset(3, "three")}
    until(lambda: len(second.records) == 2 * len(second.owned), second, first)
    assert {record.offset for record in second.records} == {3, 4}


def test_members_that_join_and_restart_copy_everything_once(world: LogWorld) -> None:
    members = [Copier(world.log("0"), world.output)]
    total = 0

    def feed() -> None:
        nonlocal total
        for partition in range(PARTITIONS):
            world.produce(partition, [b"a"] * 20)
        total += 20 * PARTITIONS

    for slot in ("1", "2"):
        feed()
        members.append(Copier(world.log(slot), world.output))
        feed()
        until(lambda: all(member.owned for member in members), *members)
    for slot in range(3):
        feed()
        members[slot].log.close()
        members[slot] = Copier(world.log(str(slot)), world.output)
        feed()
        until(lambda: all(member.owned for member in members), *members)
    until(lambda: len(set(values(world.everything()))) == total, *members)
    copied = values(world.everything())
    assert len(copied) == len(set(copied)) == total


def test_a_member_that_gets_nothing_is_told(world: LogWorld) -> None:
    members = [Member(world.log(str(slot))) for slot in range(PARTITIONS + 1)]
    until(lambda: all(m.told for m in members) and sum(len(m.owned) for m in members) == PARTITIONS, *members)
    until(lambda: sorted(len(m.owned) for m in members) == [0] + [1] * PARTITIONS, *members)
    for member in members:
        member.log.close()


def test_a_batch_of_before_a_rebalance_is_refused(world: LogWorld) -> None:
    world.produce(PARTITIONS - 1, [b"a"])
    first = owning_all(world)
    until(lambda: len(first.records) == 1, first)
    second = Member(world.log("1"))
    until(lambda: len(first.owned) == len(second.owned) == 2, first, second)
    assert PARTITIONS - 1 in second.owned
    with pytest.raises(Transient):
        first.commit(first.records, world.output)
    first.log.close()
    assert world.everything() == []


def test_paused_partitions_return_nothing_until_the_next_open(world: LogWorld) -> None:
    member = owning_all(world)
    member.log.pause([0, 1])
    for partition in range(PARTITIONS):
        world.produce(partition, [b"a"])
    until(lambda: len(member.records) == 2, member)
    for _ in range(5):
        member.turn()
    assert {record.partition for record in member.records} == {2, 3}
    member.log.close()
    again = owning_all(world)
    until(lambda: len(again.records) == PARTITIONS, again)
    again.log.close()


def test_reading_a_stretch(world: LogWorld) -> None:
    """Offsets 0 1 2 | 3 marker | 4 5 | 6 marker | 7 8 aborted, 9 marker | 10 | 11 marker."""
    world.produce(3, [b"0", b"1", b"2"], transactional=True)
    world.produce(3, [b"4", b"5"], transactional=True)
    world.abort(3, [b"7", b"8"])
    world.produce(3, [b"10"], transactional=True)
    log = world.log()
    there = [0, 1, 2, 4, 5, 10]
    ends = (0, 1, 3, 4, 6, 7, 9, 10, 11, 12)
    for start, end in [(start, end) for start in (0, 3, 5, 7, 11) for end in ends if end >= start]:
        read = [record.offset for batch in log.read(3, start, end) for record in batch]
        assert read == [offset for offset in there if start <= offset < end], (start, end)
    assert list(log.read(0, 0, 0)) == []
    assert [record.value for batch in log.read(3, 4, 6) for record in batch] == [b"4", b"5"]


def test_reading_goes_on_beside_polling_and_can_be_given_up(world: LogWorld) -> None:
    world.produce(0, [b"%d" % n for n in range(2_500)])
    member = owning_all(world)
    until(lambda: len(member.records) == 2_500, member)
    replay = member.log.read(0, 0, 2_500)
    assert next(replay)[0].offset == 0
    world.produce(1, [b"later"])
    until(lambda: len(member.records) == 2_501, member)
    del replay
    assert sum(len(batch) for batch in member.log.read(0, 10, 2_500)) == 2_490
    member.log.close()


def test_a_journal_is_read_whole_then_followed(world: LogWorld) -> None:
    world.produce(0, [b"a", b"b"], transactional=True)
    world.abort(0, [b"never"])
    world.produce(0, [b"c"])
    journal = world.journal()
    assert [record.value for record in journal.read_to_end()] == [b"a", b"b", b"c"]
    assert journal.poll() == []
    world.produce(0, [b"d"])
    found: list[InRecord] = []
    for _ in range(200_000):
        found += journal.poll()
        if found:
            break
    assert [record.value for record in found] == [b"d"]
    assert [record.value for record in journal.read_to_end()] == [b"a", b"b", b"c", b"d"], "from its start again"
    journal.close()
    journal.close()


def test_an_empty_journal_ends_at_once(world: LogWorld) -> None:
    journal = world.journal()
    assert journal.read_to_end() == []
    journal.close()
