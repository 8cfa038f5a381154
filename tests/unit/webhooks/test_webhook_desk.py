"""A desk in a simulated world: receivers that fail, hang and refuse, and a process that dies at any moment."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mesh.errors import Poison, RejectCode
from services.mesh.hops import cause_of
from services.mesh.ports import InRecord
from services.mesh.stage import Emit
from services.webhooks.circuit import FAILURES_MAX, Circuit
from services.webhooks.desk import DECIDED_HEADER, WEBHOOK_HEADER, Desk
from services.webhooks.lanes import Delivery, Lanes
from services.webhooks.progress import Mark, Progress, fresh
from services.webhooks.schedule import Schedule
from services.webhooks.verdict import Answer

SCHEDULE = Schedule(first_wait_s=1.0, wait_s_max=60.0, attempts_max=7, age_s_max=10_000.0)
TAKEN, FAILED, REFUSED = Answer(status=200), Answer(status=500), Answer(status=400, text="no such card")


def record(offset: int, customer: str = "c", partition: int = 0) -> InRecord:
    headers = [("weir", b"h")]
    return InRecord("decisions.v1", partition, offset, 1_000 + offset, customer.encode(), b"%d" % offset, headers)


def desk_of(mark: Mark | None = None, at_once: int = 4) -> Desk:
    return Desk("bank", {0: mark or fresh(0)}, SCHEDULE, Circuit(SCHEDULE, at_once))


def read(desk: Desk, *offsets: int, customer: str = "c") -> None:
    for offset in offsets:
        desk.read(record(offset, customer), wanted=True, now_s=0.0)


def test_one_customers_decisions_go_one_after_the_other_and_others_beside() -> None:
    desk = desk_of()
    read(desk, 0, 1)
    read(desk, 2, customer="d")
    first, other = desk.next(0.0), desk.next(0.0)
    assert first is not None
    assert other is not None
    assert [first.record.offset, other.record.offset, desk.next(9.0), desk.next_s()] == [0, 2, None, None]
    desk.answered(first, FAILED, 1.0, 0.0)
    assert desk.next(1.5) is None, "the second of a customer does not overtake the first"
    assert desk.next_s() == 2.0
    again = desk.next(2.0)
    assert again is first
    desk.answered(again, TAKEN, 2.0, 0.0)
    second = desk.next(2.0)
    assert second is not None
    assert second.record.offset == 1


def test_a_refused_one_is_a_dead_letter_with_its_bytes_and_the_cause_and_the_offset_goes_on() -> None:
    desk = desk_of()
    read(desk, 0)
    delivery = desk.next(0.0)
    assert delivery is not None
    desk.answered(delivery, REFUSED, 1.0, 0.0)
    settlement = desk.settlement()
    assert settlement is not None
    (letter,) = settlement.letters
    assert (letter.topic, letter.key, letter.value, letter.partition) == ("dead-letters.v1", b"c", b"0", 0)
    assert letter.headers[:3] == (("weir", b"h"), (WEBHOOK_HEADER, b"bank"), (DECIDED_HEADER, b"1000"))
    cause = cause_of(record(0)._replace(headers=letter.headers))
    assert cause == {
        "error_code": "webhook_refused", "error_field": "", "stage": "webhooks", "origin_topic": "decisions.v1",
        "error_message": "bank answered 400: no such card; mend it, then redeliver",
        "origin_partition": "0", "origin_offset": "0",
    }  # fmt: skip
    assert settlement.marks == {0: fresh(1)}
    assert desk.settlement() is None


def test_one_that_alone_is_not_taken_is_given_up_after_its_attempts() -> None:
    desk = desk_of()
    read(desk, 0)
    now_s, codes = 0.0, list[str]()
    while not codes:
        delivery = desk.next(now_s)
        assert delivery is not None
        desk.answered(delivery, FAILED, now_s, 0.0)
        desk.circuit.took()  # others are taken meanwhile
        now_s = desk.next_s() or now_s
        settlement = desk.settlement()
        codes = [dict(letter.headers)["error_code"].decode() for letter in settlement.letters] if settlement else []
    assert codes == ["webhook_not_taken"]
    assert now_s == 1.0 + 2.0 + 4.0 + 8.0 + 16.0 + 32.0


def test_a_receiver_that_is_down_uses_up_nobodys_attempts_and_is_asked_by_each_in_turn() -> None:
    desk = desk_of()
    for offset, customer in enumerate("abcdefgh"):
        read(desk, offset, customer=customer)
    asked, now_s = list[int](), 0.0
    for _ in range(100):
        delivery = desk.next(now_s)
        assert delivery is not None
        assert len(asked) < FAILURES_MAX or desk.next(now_s) is None, "one at a time while it is down"
        asked.append(delivery.record.offset)
        desk.answered(delivery, FAILED, now_s, 0.5)
        now_s = desk.next_s() or now_s
    assert desk.settlement() is None or desk.waiting == 8
    assert set(Counter(asked[FAILURES_MAX:]).values()) <= {11, 12, 13}, "nobody who cannot be taken keeps the others"
    delivery = desk.next(now_s)
    assert delivery is not None
    desk.answered(delivery, TAKEN, now_s, 0.5)
    assert [desk.next(now_s) is not None for _ in range(5)] == [True] * 4 + [False]


def test_at_last_even_a_receiver_that_is_down_is_given_up_on() -> None:
    desk = desk_of()
    read(desk, 0)
    now_s = 0.0
    while desk.waiting:
        delivery = desk.next(now_s)
        assert delivery is not None
        desk.answered(delivery, Answer(text="refused"), now_s, 0.0)
        now_s = desk.next_s() or now_s
    assert now_s >= SCHEDULE.age_s_max


def test_who_asks_to_be_left_alone_is() -> None:
    desk = desk_of()
    read(desk, 0)
    read(desk, 1, customer="d")
    for _ in range(20):
        delivery = desk.next(desk.next_s() or 0.0)
        assert delivery is not None
        now_s = desk.next_s() or 0.0
        desk.answered(delivery, Answer(status=429, retry_after_s=30.0), now_s, 0.0)
        assert desk.next_s() == now_s + 30.0
        assert desk.next(now_s + 29.9) is None
    assert desk.waiting == 2, "being told to wait is no failed attempt"
    assert not desk.circuit.is_open


def test_one_that_is_gone_is_left_alone_and_nothing_is_given_up() -> None:
    desk = desk_of()
    read(desk, 0)
    delivery = desk.next(0.0)
    assert delivery is not None
    desk.answered(delivery, Answer(status=410), 0.0, 0.0)
    assert desk.next(1e9) is None
    assert desk.next_s() is None
    settlement = desk.settlement()
    assert settlement is not None
    assert (settlement.letters, settlement.marks) == ([], {0: Mark(0, 1, (0,))})


def test_what_nobody_asked_for_is_settled_unsent() -> None:
    desk = desk_of()
    desk.read(record(0), wanted=False, now_s=0.0)
    assert desk.next(0.0) is None
    settlement = desk.settlement()
    assert settlement is not None
    assert settlement.marks == {0: fresh(1)}


def test_one_that_cannot_be_read_is_a_dead_letter() -> None:
    desk = desk_of()
    read(desk, 0)
    delivery = desk.next(0.0)
    assert delivery is not None
    desk.given_up(delivery, Poison(RejectCode.UNDECODABLE, "bytes"), 0.0)
    settlement = desk.settlement()
    assert settlement is not None
    assert dict(settlement.letters[0].headers)["error_code"] == b"undecodable"


class World:
    """One partition, one receiver, and a process whose commits alone outlive it."""

    def __init__(self, seed: int, decisions: int, receiver_keeps_order: bool = True) -> None:
        self.chance = Random(seed)
        self.log = [record(offset, f"c{self.chance.randrange(5)}") for offset in range(decisions)]
        self.poison = {offset for offset in range(decisions) if self.chance.random() < 0.05}
        self.mark = fresh(0)
        self.letters: list[Emit] = []
        self.heard: list[int] = []
        self.now_s = 0.0
        self.circuit = Circuit(SCHEDULE, 4)

    def live(self, turns: int, *, is_bad: bool) -> bool:
        """One life of the process; whether it has settled everything."""
        desk = Desk("bank", {0: self.mark}, SCHEDULE, self.circuit)
        unread = [one for one in self.log if one.offset >= self.mark.offset]
        on_the_way: list[Delivery] = []
        for _ in range(turns):
            match self.chance.choice(("read", "send", "send", "answer", "answer", "commit")):
                case "read" if unread and desk.room(0):
                    desk.read(unread.pop(0), wanted=True, now_s=self.now_s)
                case "send":
                    if (delivery := desk.next(self.now_s)) is not None:
                        on_the_way.append(delivery)
                    elif (next_s := desk.next_s()) is not None:
                        self.now_s = max(self.now_s, next_s)
                case "answer" if on_the_way:
                    delivery = on_the_way.pop(self.chance.randrange(len(on_the_way)))
                    desk.answered(
                        delivery, self.answer(delivery.record.offset, is_bad), self.now_s, self.chance.random()
                    )
                case "commit":
                    settlement = desk.settlement()
                    if settlement is not None:
                        self.mark = settlement.marks.get(0, self.mark)
                        self.letters += settlement.letters
            self.now_s += 0.01
        return self.mark == fresh(len(self.log))

    def answer(self, offset: int, is_bad: bool) -> Answer:
        if offset in self.poison:
            return REFUSED
        luck = self.chance.random() if is_bad else 1.0
        if luck < 0.2:
            return FAILED
        self.heard.append(offset)
        return Answer(text="the answer was lost") if luck < 0.3 else TAKEN


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60), st.lists(st.integers(0, 200), max_size=6))
def test_every_decision_arrives_or_is_one_dead_letter_whenever_the_process_dies(
    seed: int, decisions: int, lives: list[int]
) -> None:
    world = World(seed, decisions)
    for turns in lives:
        world.live(turns, is_bad=True)
    assert world.live(20_000, is_bad=False), "it comes to an end once the receiver is well"
    letters = Counter(int(letter.value or b"") for letter in world.letters)
    assert set(letters.values()) <= {1}, "a dead letter stands once"
    assert set(world.heard) | set(letters) == set(range(decisions))
    assert world.poison <= set(letters)
    assert not world.poison & set(world.heard)
    for customer in {one.key for one in world.log}:
        own = [one.offset for one in world.log if one.key == customer and one.offset in world.heard]
        firsts = sorted(own, key=world.heard.index)
        assert firsts == own, "first arrivals of one customer are in the order of the log"


def test_the_simulation_notices_a_commit_that_runs_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: a desk that commits what it has read loses what was on its way."""
    monkeypatch.setattr(Progress, "mark", lambda self: fresh(self.position))
    lost = 0
    for seed in range(20):
        world = World(seed, 40)
        world.live(60, is_bad=True)
        world.live(20_000, is_bad=False)
        letters = {int(letter.value or b"") for letter in world.letters}
        lost += len(set(range(40)) - set(world.heard) - letters)
    assert lost > 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.integers(0, 2**16))
def test_lanes_hand_out_each_once_in_order_of_its_lane(wanted: list[tuple[str, bool]], seed: int) -> None:
    lanes, chance, now_s = Lanes(), Random(seed), 0.0
    for offset, (lane, _) in enumerate(wanted):
        lanes.add(Delivery(record(offset), lane.encode()), now_s)
    taken, out = list[Delivery](), list[Delivery]()
    failing = {offset for offset, (_, fails) in enumerate(wanted) if fails}
    while len(taken) < len(wanted):
        while (delivery := lanes.take(now_s)) is not None:
            out.append(delivery)
        assert len({one.lane for one in out}) == len(out), "one of a lane at a time"
        if out:
            delivery = out.pop(chance.randrange(len(out)))
            if delivery.record.offset in failing:
                failing.remove(delivery.record.offset)
                lanes.again(delivery, now_s + 1.0)
            else:
                taken.append(delivery)
                lanes.done(delivery, now_s)
        else:
            now_s = lanes.due_s() or now_s
    for name in b"abc":
        offsets = [one.record.offset for one in taken if one.lane == bytes([name])]
        assert offsets == sorted(offsets)
    assert list(lanes) == []
    assert lanes.due_s() is None
