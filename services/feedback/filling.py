"""A partition's file, brought to where its group has committed: after a crash, a loss, or a change of owner.

Decisions and outcomes are read from where the file stands, by the same rules as live. How the two interleaved is not
known any more, so nothing is concluded from them: every outcome is put down as waiting, and then what was really made
of them is read from ``labels.v1`` and ``outcomes.orphan.v1``. A transaction that showed its outputs and never moved its
offsets (KIP-890) is thereby taken as done: its outcomes come again and are repeats.

Where to begin in these two is found from their ends: the transactions of a partition follow one another, so the first
record that an input from before the file's place has led to is one that the file knows, and so is all before it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

from services.feedback.archive import Archive, History, Place, Waiting
from services.feedback.joiner import Joiner
from services.feedback.labelling import Labelling, Told, mark_of, tag_of
from services.feedback.settings import JoinRules
from services.mesh.errors import Poison
from services.mesh.headers import LANE, WEIR, Hop, find, unpack_hop
from services.mesh.ports import CommittedOffset, InRecord
from services.mesh.topology import FEEDBACK
from services.mesh.watermark import Marks

# One transaction of the file: some ms of writing, and what a kill repeats.
STEP_RECORDS: Final = 10_000
_LOOK_BACK_FIRST: Final = 1_000  # two batches: what a crash leaves out
_LOOK_BACK_GROWTH: Final = 8

Read = Callable[[int, int, int], Iterator[list[InRecord]]]


class Written(Protocol):
    """A topic that feedback writes, as a reader of committed records sees it, outside any group. Raises Transient."""

    def ends(self, partition: int) -> tuple[int, int]:
        """First offset that is kept, and the one after the last; waits until no transaction is open there."""
        ...

    def read(self, partition: int, start: int, end: int) -> Iterator[list[InRecord]]:
        """Records with ``start <= offset < end``."""
        ...


class Inputs(NamedTuple):
    """Where the group stands in a partition of both inputs."""

    decisions: CommittedOffset
    outcomes: CommittedOffset

    @property
    def offsets(self) -> tuple[int, int]:
        """Next offsets."""
        return self.decisions.offset or 0, self.outcomes.offset or 0


class Filling:
    """Fills one archive. ``alive`` is called after each step; it may raise to give up, and nothing done is lost."""

    def __init__(
        self, partition: int, archive: Archive, rules: JoinRules, labelling: Labelling, alive: Callable[[int], None]
    ) -> None:
        self._partition = partition
        self._archive = archive
        self._rules = rules
        self._labelling = labelling
        self._joiner = Joiner(partition, archive, rules, labelling)
        self._alive = alive
        self._step = 0
        self.records = 0

    def fill(self, read: Read, labels: Written, orphans: Written, to: Inputs) -> None:
        """Bring the file to ``to``. Raises Transient, Fatal, Unusable."""
        archive, partition = self._archive, self._partition
        decisions, outcomes = to.offsets
        place = archive.place
        if place.decisions > decisions or place.outcomes > outcomes:
            logging.warning("feedback: file of partition %d is ahead of the log; it is filled anew", partition)
            archive.clear()
            place = archive.place
        marks = Marks.from_metadata(place.decisions_metadata)
        for records in read(partition, place.decisions, decisions) if place.decisions < decisions else ():
            for record in records:
                if _admit(marks, record):
                    self._decision(record)
            place.decisions, place.decisions_metadata = records[-1].offset + 1, marks.to_metadata()
            self._done(len(records))
        marks = Marks.from_metadata(place.outcomes_metadata)
        for records in read(LANE + partition, place.outcomes, outcomes) if place.outcomes < outcomes else ():
            for record in records:
                if _admit(marks, record):
                    self._outcome(record)
            place.outcomes, place.outcomes_metadata = records[-1].offset + 1, marks.to_metadata()
            self._done(len(records))
        self._take_back(labels, self._label)
        self._take_back(orphans, self._orphan)
        place.decisions, place.decisions_metadata = decisions, to.decisions.metadata
        place.outcomes, place.outcomes_metadata = outcomes, to.outcomes.metadata
        place.told_decisions, place.told_outcomes = decisions, outcomes
        archive.commit()
        more = True
        while more:
            more = self._joiner.forget(STEP_RECORDS)
            archive.commit()  # also the last time: an open step would keep the file from whoever is next
            self._alive(self.records)

    def _take_back(self, topic: Written, take: Callable[[InRecord], None]) -> None:
        first, end = topic.ends(self._partition)
        start = self._start(topic, first, end)
        for records in topic.read(self._partition, start, end) if start < end else ():
            for record in records:
                take(record)
            self._done(len(records))

    def _start(self, topic: Written, first: int, end: int) -> int:
        """Where what the file does not know begins, or somewhat before."""
        if not self._archive.place.told_decisions and not self._archive.place.told_outcomes:
            return first
        start, look_back = end, _LOOK_BACK_FIRST
        while start > first:
            start = max(first, end - look_back)
            oldest = next((records[0] for records in topic.read(self._partition, start, end) if records), None)
            if oldest is not None and self._knows(oldest):
                break
            look_back *= _LOOK_BACK_GROWTH
        return start

    def _knows(self, record: InRecord) -> bool:
        hop, place = _hop_of(record), self._archive.place
        if hop is None:
            return False
        input_ = hop.previous_partition // LANE - FEEDBACK.lane
        return hop.previous_offset < (place.told_outcomes if input_ else place.told_decisions)

    def _decision(self, record: InRecord) -> None:
        try:
            head = self._labelling.head(record.value)
        except Poison:
            return  # in dead letters since then
        self._joiner.remember(record.offset, record.append_time_ms, record.value or b"", head)

    def _outcome(self, record: InRecord) -> None:
        try:
            outcome = self._labelling.outcome(record.value)
        except Poison:
            return
        mark = mark_of(outcome["customer_id"], outcome["outcome_id"])
        tag = tag_of(outcome["customer_id"], outcome["event_id"])
        found = self._archive.find(tag)
        if any(one.history.knows(mark) for one in found) or self._archive.is_known(mark):
            return
        until_ms = outcome["observed_time_ms"] + self._rules.patience_ms
        reason = "unknown_revision" if found else "no_decision"
        self._archive.wait(Waiting(mark, record.offset, tag, until_ms, reason, record.value or b""))

    def _label(self, record: InRecord) -> None:
        label, place = _TOLD.label(record), self._archive.place
        offset = label["decision_offset"]
        if label["outcome_id"] is None:
            place.mature_next = max(place.mature_next, offset + 1)
            return
        mark = mark_of(label["customer_id"], label["outcome_id"])
        self._archive.stop_waiting(mark)
        history = self._archive.history(offset)
        if offset >= place.drop_next and not history.knows(mark):
            word = mark << 1 | (label["label"] == "fraud")
            self._archive.say(offset, History(history.matured, (*history.said, word)))

    def _orphan(self, record: InRecord) -> None:
        orphan = _TOLD.orphan(record)
        mark = mark_of(orphan["customer_id"], orphan["outcome_id"])
        until_ms = orphan["observed_time_ms"] + self._rules.patience_ms
        self._archive.stop_waiting(mark)
        self._archive.give_up(mark, max(orphan["orphaned_time_ms"], until_ms) + self._rules.memory_ms)

    def _done(self, records: int) -> None:
        self._step += records
        self.records += records
        if self._step >= STEP_RECORDS:
            self._step = 0
            self._archive.commit()
            self._alive(self.records)


_TOLD: Final = Told()


def follow(place: Place, inputs: Inputs) -> None:
    """Note in ``place`` what has been committed."""
    place.decisions, place.outcomes = inputs.offsets
    place.told_decisions, place.told_outcomes = inputs.offsets
    place.decisions_metadata, place.outcomes_metadata = inputs.decisions.metadata, inputs.outcomes.metadata


def _admit(marks: Marks, record: InRecord) -> bool:
    """Whether the record was taken the first time: the runtime's rule."""
    hop = _hop_of(record)
    return hop is not None and marks.admit(hop)


def _hop_of(record: InRecord) -> Hop | None:
    header = find(record.headers, WEIR)
    try:
        return None if header is None else unpack_hop(header)
    except Poison:
        return None
