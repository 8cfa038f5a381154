"""The joining itself, for one partition: which outcome belongs to which decision, and what that makes of it.

Everything is a function of the two inputs in the order in which they are handed over; time is the clock of decisions.
"""

from __future__ import annotations

from typing import Final, cast

from services.feedback.archive import Archive, History, Waiting
from services.feedback.labelling import Decided, Head, Labelling, Made, mark_of, tag_of
from services.feedback.settings import KNOWN_LABELS_WINDOW_MS, JoinRules
from services.mesh.records import Label, OrphanReason, Outcome

# Decisions that mature or are forgotten, and outcomes that are given up, in one batch: a transaction stays below some
# MB, and ordinals below what a watermark's mark has room for. More wait for the next batch.
DUE_MAX: Final = 500

_NEVER_MS: Final = 1 << 62


class Joiner:
    """State of one partition and its verdicts. ``archive`` is its memory between batches."""

    def __init__(self, partition: int, archive: Archive, rules: JoinRules, labelling: Labelling) -> None:
        self.partition = partition
        self.archive = archive
        self._rules = rules
        self._labelling = labelling
        self.waiting = archive.waiting_count()
        self.joined = 0  # counters since the last look
        self.matured = 0
        self.repeats = 0
        self.orphans: dict[str, int] = {}
        # When the oldest decision is due; asked anew once it was passed.
        self._mature_at_ms = self._forget_at_ms = 0

    def decide(self, offset: int, append_time_ms: int, record: bytes) -> list[Made]:
        """A decision; what waits for it is joined. Raises Poison."""
        head = self._labelling.head(record)
        decided = self.remember(offset, append_time_ms, record, head)
        if not self.waiting:
            return []
        return self._join_waiting(decided, head, tag_of(head.customer_id, head.event_id))

    def remember(self, offset: int, append_time_ms: int, record: bytes, head: Head) -> Decided:
        """Keep a decision and move the clock."""
        decided = Decided(offset, head.event_time_ms, append_time_ms, record)
        self.archive.add(tag_of(head.customer_id, head.event_id), decided)
        place = self.archive.place
        place.clock_ms = max(place.clock_ms, head.event_time_ms)
        return decided

    def observe(self, offset: int, value: bytes, outcome: Outcome) -> list[Made]:
        """An outcome: joined, waiting, an orphan, or a repeat."""
        mark = mark_of(outcome["customer_id"], outcome["outcome_id"])
        tag = tag_of(outcome["customer_id"], outcome["event_id"])
        found = self.archive.find(tag)
        if any(one.history.knows(mark) for one in found) or self.archive.is_known(mark):
            self.repeats += 1
            return []
        waits = Waiting(mark, offset, tag, outcome["observed_time_ms"] + self._rules.patience_ms, "no_decision", value)
        for _, decided, history in found:
            # Hashes may collide, ids may not.
            head = None if decided is None else self._labelling.head(decided.record)
            if decided and head and (head.event_id, head.customer_id) == (outcome["event_id"], outcome["customer_id"]):
                return self._join_or_wait(decided, head, history, waits, outcome)
        if any(one.decided is None for one in found):
            return [self._give_up(waits, "decision_forgotten")]
        return self._wait(waits)

    def due(self, rows_max: int = DUE_MAX) -> list[Made]:
        """What the clock has passed: orphans, matured labels; and decisions are forgotten."""
        clock_ms, rules, made = self.archive.place.clock_ms, self._rules, []
        if self.waiting:
            for waits in self.archive.overdue(clock_ms, rows_max):
                self.archive.stop_waiting(waits.mark)
                self.waiting -= 1
                made.append(self._give_up(waits, cast(OrphanReason, waits.reason)))
        if clock_ms > self._mature_at_ms:
            made += self._mature(clock_ms - rules.maturity_ms, rows_max)
        self.forget(rows_max)
        return made

    def forget(self, rows_max: int = DUE_MAX) -> bool:
        """Drop what is older than decisions are kept for; whether there may be more of it."""
        archive, place = self.archive, self.archive.place
        if place.clock_ms <= self._forget_at_ms:
            return False
        before = place.forget_next
        archive.forget(place.clock_ms - self._rules.memory_ms, rows_max)
        archive.forget_outcomes(place.clock_ms)
        self._forget_at_ms = self._next_ms(place.forget_next, self._rules.memory_ms)
        if place.clock_ms > place.drop_at_ms:
            # Of what was forgotten the identity is kept as long again, to say why an outcome found nothing.
            place.drop_next, place.forgotten = place.forgotten, place.forget_next
            place.drop_at_ms = place.clock_ms + self._rules.memory_ms
        return place.forget_next > before

    def _mature(self, before_ms: int, rows_max: int) -> list[Made]:
        made = []
        for decided in self.archive.unsaid(before_ms, rows_max):
            head = self._labelling.head(decided.record)
            made.append(self._labelling.matured(decided, head, self.partition, self._rules.maturity_ms))
            self.matured += 1
            if self._tells_matured:
                observed_time_ms = decided.time_ms + self._rules.maturity_ms
                made.append(self._labelling.update(head, "genuine", 1, observed_time_ms))
        self._mature_at_ms = self._next_ms(self.archive.place.mature_next, self._rules.maturity_ms)
        return made

    @property
    def _tells_matured(self) -> bool:
        """Whether a matured label can be in any window of the terminal's features."""
        return self._rules.maturity_ms < KNOWN_LABELS_WINDOW_MS

    def _next_ms(self, start: int, span_ms: int) -> int:
        oldest_ms = self.archive.oldest_ms(start)
        return 0 if oldest_ms is None else oldest_ms + span_ms

    def _join_waiting(self, decided: Decided, head: Head, tag: int) -> list[Made]:
        """Join what waits for this event, and what waits for that: a reversal may have come before what it reverses."""
        made: list[Made] = []
        joined = True
        while joined and self.waiting:
            joined = False
            for waits in self.archive.waiting_for(tag):
                outcome = self._labelling.outcome(waits.value)
                if (outcome["customer_id"], outcome["event_id"]) != (head.customer_id, head.event_id):
                    continue
                history = self.archive.history(decided.offset)
                if self._is_revision_unknown(outcome, history):
                    if waits.reason != "unknown_revision":
                        self.archive.wait(waits._replace(reason="unknown_revision"))
                    continue
                self.archive.stop_waiting(waits.mark)
                self.waiting -= 1
                made += self._say(decided, head, outcome, waits.mark, history)
                joined = True
        return made

    def _join_or_wait(
        self, decided: Decided, head: Head, history: History, waits: Waiting, outcome: Outcome
    ) -> list[Made]:
        if self._is_revision_unknown(outcome, history):
            return self._wait(waits._replace(reason="unknown_revision"))
        made = self._say(decided, head, outcome, waits.mark, history)
        return made + (self._join_waiting(decided, head, waits.tag) if self.waiting else [])

    def _is_revision_unknown(self, outcome: Outcome, history: History) -> bool:
        revises = outcome["revises"]
        return revises is not None and not history.knows(mark_of(outcome["customer_id"], revises))

    def _say(self, decided: Decided, head: Head, outcome: Outcome, mark: int, history: History) -> list[Made]:
        """A new version of the event's label."""
        said = History(history.matured, (*history.said, mark << 1 | (outcome["label"] == "fraud")))
        self.archive.say(decided.offset, said)
        self.joined += 1
        made = [self._labelling.observed(decided, head, self.partition, outcome, len(said.said))]
        told = self._told(said)
        if len(told) > len(self._told(history)):
            made.append(self._labelling.update(head, outcome["label"], len(told), outcome["observed_time_ms"]))
        return made

    def _told(self, history: History) -> list[Label]:
        """The labels that the terminal was told, one after the other: each differs from the one before."""
        told: list[Label] = ["genuine"] if history.matured and self._tells_matured else []
        for word in history.said:
            label: Label = "fraud" if word & 1 else "genuine"
            if not told or told[-1] != label:
                told.append(label)
        return told

    def _wait(self, waits: Waiting) -> list[Made]:
        if waits.until_ms < self.archive.place.clock_ms:
            return [self._give_up(waits, cast(OrphanReason, waits.reason))]
        self.archive.wait(waits)
        self.waiting += 1
        return []

    def _give_up(self, waits: Waiting, reason: OrphanReason) -> Made:
        clock_ms = self.archive.place.clock_ms
        self.archive.give_up(waits.mark, max(clock_ms, waits.until_ms) + self._rules.memory_ms)
        self.orphans[reason] = self.orphans.get(reason, 0) + 1
        return self._labelling.orphan(waits.value, self.partition, reason, clock_ms)
