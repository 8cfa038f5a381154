"""The joiner's meaning in the fewest words: everything in dicts, nothing on disk, no code shared with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Made = tuple[Any, ...]


@dataclass
class Oracle:
    patience_ms: int
    maturity_ms: int
    memory_ms: int
    tells_matured: bool
    clock_ms: int = 0
    decided: dict[str, int] = field(default_factory=dict)  # event -> time, in order of decision
    matured: set[str] = field(default_factory=set)
    mature_to: int = 0  # how many of ``decided`` have had their turn
    forgotten_to: int = 0
    said: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    orphaned: set[str] = field(default_factory=set)

    def decide(self, event: str, time_ms: int) -> list[Made]:
        self.decided[event] = time_ms
        self.clock_ms = max(self.clock_ms, time_ms)
        return self._join(event)

    def observe(self, outcome: dict[str, Any]) -> list[Made]:
        event, name = outcome["event_id"], outcome["outcome_id"]
        told = {one["outcome_id"] for one in (*self.waiting, *self.said.get(event, ()))}
        if name in told or name in self.orphaned:
            return []
        if event in self._forgotten():
            return [self._orphan(outcome, "decision_forgotten")]
        self.waiting.append(outcome)
        made = self._join(event) if event in self.decided else []
        if outcome in self.waiting and outcome["observed_time_ms"] + self.patience_ms < self.clock_ms:
            self.waiting.remove(outcome)
            made.append(self._orphan(outcome, self._reason(outcome)))
        return made

    def due(self) -> list[Made]:
        made: list[Made] = []
        late = [one for one in self.waiting if one["observed_time_ms"] + self.patience_ms < self.clock_ms]
        for one in sorted(late, key=lambda one: one["observed_time_ms"]):
            self.waiting.remove(one)
            made.append(self._orphan(one, self._reason(one)))
        events = list(self.decided)
        while self.mature_to < len(events) and self.decided[events[self.mature_to]] + self.maturity_ms < self.clock_ms:
            event = events[self.mature_to]
            self.mature_to += 1
            if not self.said.get(event):
                self.matured.add(event)
                made.append(("label", event, None, "genuine", 0))
                if self.tells_matured:
                    made.append(("update", event, "genuine", 1))
        while (
            self.forgotten_to < self.mature_to
            and self.decided[events[self.forgotten_to]] + self.memory_ms < self.clock_ms
        ):
            self.forgotten_to += 1
        return made

    def _join(self, event: str) -> list[Made]:
        made: list[Made] = []
        moved = True
        while moved:
            moved = False
            for one in [one for one in self.waiting if one["event_id"] == event]:
                said = self.said.setdefault(event, [])
                if one["revises"] is None or one["revises"] in {earlier["outcome_id"] for earlier in said}:
                    self.waiting.remove(one)
                    before = self._told(event)
                    said.append(one)
                    made.append(("label", event, one["outcome_id"], one["label"], len(said)))
                    if self._told(event) != before:
                        made.append(("update", event, one["label"], len(self._told(event))))
                    moved = True
        return made

    def _told(self, event: str) -> list[str]:
        told = ["genuine"] if event in self.matured and self.tells_matured else []
        for one in self.said.get(event, ()):
            if told[-1:] != [one["label"]]:
                told.append(one["label"])
        return told

    def _forgotten(self) -> set[str]:
        return set(list(self.decided)[: self.forgotten_to])

    def _reason(self, outcome: dict[str, Any]) -> str:
        return "unknown_revision" if outcome["event_id"] in self.decided else "no_decision"

    def _orphan(self, outcome: dict[str, Any], reason: str) -> Made:
        self.orphaned.add(outcome["outcome_id"])
        return ("orphan", outcome["outcome_id"], reason)
