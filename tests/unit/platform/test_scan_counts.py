"""The account settles from identities alone, whatever order the topics are read in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pytest

from services.mesh.codec import HEADER_BYTES
from services.mesh.headers import WEIR
from services.mesh.topics import (
    DEAD_LETTERS,
    DECISIONS,
    EVENTS,
    EVENTS_RAW,
    FEATURES,
    LABELS,
    OUTCOMES_RAW,
    UPDATES_TERMINAL,
    Topic,
)
from services.platform.scan import Ledger, OutOfTime, settle


@dataclass(frozen=True)
class Message:
    """What ``settle`` uses of a message."""

    body: bytes
    told: tuple[tuple[str, bytes], ...] = ()
    at: int = 0

    def value(self) -> bytes:
        return self.body

    def headers(self) -> tuple[tuple[str, bytes], ...]:
        return self.told

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at


def record(name: str, branch: bytes = b"") -> Message:
    """A record that begins as every record of the mesh does."""
    ids = b"".join(bytes([2 * len(text)]) + text for text in (name.encode(), b"c"))
    return Message(bytes(HEADER_BYTES) + branch + ids + b"the rest")


def rejected(code: str, origin: Topic = EVENTS_RAW) -> Message:
    return Message(b"?", (("error_code", code.encode()), ("origin_topic", origin.name.encode())))


def account(log: Mapping[Topic, list[Message]], unfinished: Mapping[str, Mapping[int, int]] | None = None) -> Ledger:
    def read(topic: Topic, starts: Mapping[int, int] | None) -> Iterable[Message]:
        return [m for m in log.get(topic, []) if starts is None or m.at >= starts.get(0, 1 << 62)]

    return settle(read, unfinished or {})


def test_one_decision_an_event_is_a_clean_account() -> None:
    ledger = account({EVENTS: [record("a"), record("b")], DECISIONS: [record("b"), record("a")]})
    assert (ledger.accepted, ledger.decisions) == (2, 2)
    assert (ledger.missing, ledger.duplicates, ledger.strangers, ledger.undecided) == (0, 0, 0, 0)


def test_an_event_without_decision_is_missing() -> None:
    assert account({EVENTS: [record("a"), record("b")], DECISIONS: [record("a")]}).missing == 1


def test_a_dead_letter_of_a_later_stage_is_no_decision() -> None:
    ledger = account({EVENTS: [record("a")], DEAD_LETTERS: [rejected("undecodable", EVENTS)]})
    assert (ledger.missing, ledger.raw_rejects, ledger.dead_letters) == (1, 0, 1)


def test_a_second_decision_is_a_duplicate_and_hides_no_missing_one() -> None:
    ledger = account({EVENTS: [record("a"), record("b")], DECISIONS: [record("a"), record("a")]})
    assert (ledger.decisions, ledger.duplicates, ledger.missing) == (2, 1, 1)


def test_a_decision_of_nobody_is_a_stranger() -> None:
    ledger = account({EVENTS: [record("a")], DECISIONS: [record("a"), record("z"), record("z")]})
    assert (ledger.strangers, ledger.duplicates, ledger.accepted) == (1, 1, 1)


def test_an_identity_is_accepted_once_however_often_it_is_written() -> None:
    ledger = account({EVENTS: [record("a"), record("a"), record("b"), record("b")], DECISIONS: [record("a")]})
    assert (ledger.accepted, ledger.missing) == (2, 1)


def test_between_two_stages_is_on_the_way() -> None:
    log = {
        EVENTS: [record("a"), record("b"), record("c")],
        UPDATES_TERMINAL: [record("a", branch=b"\x00")],
        FEATURES: [record("b")],
        DECISIONS: [],
    }
    ledger = account(log, {UPDATES_TERMINAL.name: {0: 0}, FEATURES.name: {0: 0}})
    assert (ledger.undecided, ledger.missing) == (2, 1)


def test_what_its_stage_has_committed_is_not_on_the_way() -> None:
    ledger = account({EVENTS: [record("a")]}, {EVENTS.name: {0: 1}})
    assert (ledger.undecided, ledger.missing) == (0, 1)


def test_raw_records_are_told_apart() -> None:
    log = {
        EVENTS_RAW: [Message(b"1"), Message(b"2", ((WEIR, b"hop"),), at=1), Message(b"3", at=2)],
        DEAD_LETTERS: [rejected("late"), rejected("late"), rejected("conflict")],
        OUTCOMES_RAW: [Message(b"o")],
    }
    ledger = account(log, {EVENTS_RAW.name: {0: 2}})
    assert ledger.outcomes is not None
    assert (ledger.events_in, ledger.rekeyed, ledger.unjudged, ledger.outcomes.outcomes_in) == (2, 1, 1, 1)
    assert ledger.rejects == {"late": 2, "conflict": 1}


@pytest.mark.parametrize("late", [LABELS, OUTCOMES_RAW])
def test_time_that_ends_among_outcomes_leaves_the_account_of_events(late: Topic) -> None:
    """A stop has 10 s: whether an event is missing is what people look for first."""

    log = {EVENTS: [record("a"), record("b")], DECISIONS: [record("b")], DEAD_LETTERS: [rejected("late")]}

    def read(topic: Topic, starts: Mapping[int, int] | None) -> Iterable[Message]:
        if topic is late:
            raise OutOfTime(f"{topic.name} was not read to its end")
        return log.get(topic, []) if starts is None else []

    ledger = settle(read, {})
    assert (ledger.accepted, ledger.missing, ledger.dead_letters) == (2, 1, 1)
    assert ledger.outcomes is None
    assert ledger.is_wrong


def test_time_that_ends_before_is_no_account() -> None:
    def read(topic: Topic, starts: Mapping[int, int] | None) -> Iterable[Message]:
        del starts
        raise OutOfTime(f"{topic.name} was not read to its end")

    with pytest.raises(OutOfTime, match=DECISIONS.name):
        settle(read, {})


def test_garbage_in_a_topic_is_counted_and_stops_nothing() -> None:
    garbage = [Message(b""), Message(b"\x00\x00\x00\x00\x01\xff")]
    ledger = account({EVENTS: [record("a"), *garbage], DECISIONS: [*garbage, record("a")]})
    assert (ledger.unreadable, ledger.accepted, ledger.decisions, ledger.missing) == (4, 1, 1, 0)
