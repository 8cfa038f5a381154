"""What a stage tells the outside about itself: metrics and health, fed by the runtime once a batch.

Pure bookkeeping: it opens no socket. ``adapters/health_server.py`` serves it, ``adapters/watchdog.py`` watches it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from operator import attrgetter

from services.mesh.headers import find
from services.mesh.metrics import Metrics
from services.mesh.ports import Clock, OutRecord
from services.mesh.topics import DEAD_LETTERS

_TOPIC = attrgetter("topic")


@dataclass(slots=True)
class Health:
    """One answer for each of the three questions: alive, ready, making progress."""

    stage: str
    ready: bool = False
    halted: str = ""
    last_turn_s: float = 0.0  # monotonic
    patience_s: float = inf  # how long what the loop has begun may take, where that is known
    last_error: str = ""
    partitions: list[int] = field(default_factory=list)
    records: int = 0
    batches: int = 0
    versions: dict[str, str] = field(default_factory=dict)  # what is in force here: model, policy, feature set
    # Of the control plane: nothing unread, nothing running; who replays months waits for it. None: nobody says.
    idle: bool | None = None
    event_time_ms: int = 0  # newest event time or observation that it has taken


class StageTelemetry:
    """Counts for one stage process."""

    def __init__(self, stage: str, clock: Clock) -> None:
        self.metrics = Metrics(stage)
        self.health = Health(stage, last_turn_s=clock.monotonic_s())
        self._clock = clock

    @property
    def batches(self) -> int:
        """Transactions committed so far."""
        return self.health.batches

    def alive(self, patience_s: float = inf) -> None:
        """The loop has made a turn, or begins something that takes no longer than ``patience_s``."""
        self.health.last_turn_s = self._clock.monotonic_s()
        self.health.patience_s = patience_s

    def ready(self, ready: bool) -> None:
        """The stage owns its share of partitions, or no longer."""
        self.health.ready = ready
        self.metrics.set("weir_ready", ready)

    def owns(self, partitions: list[int]) -> None:
        """The partitions owned from now on."""
        self.health.partitions = partitions
        self.metrics.set("weir_owned_partitions", len(partitions))

    def halted(self, why: str) -> None:
        """The stage has stopped on purpose and waits for a person."""
        self.health.halted = why
        self.metrics.set("weir_halted", 1)
        self.ready(False)

    def reopened(self, why: str) -> None:
        """A session was given up."""
        self.health.last_error = why
        self.metrics.add("weir_reopens", 1)

    def in_force(self, what: str, version: str) -> None:
        """A version of ``what`` (model, policy, feature set) is used from now on."""
        self.health.versions[what] = version

    def told(self, outputs: Sequence[OutRecord]) -> None:
        """Outputs that no batch led to."""
        self.metrics.add_all("weir_outputs", Counter(out.topic for out in outputs))

    def batch(
        self,
        *,
        records: int,
        repeats: int,
        outputs: Sequence[OutRecord],
        step_s: float,
        commit_s: float,
        save_s: float,
        newest_append_time_ms: int,
    ) -> None:
        """One committed batch."""
        health, metrics = self.health, self.metrics
        health.records += records
        health.batches += 1
        metrics.add("weir_records", records)
        metrics.add("weir_batches", 1)
        if repeats:
            metrics.add("weir_repeats", repeats)
        topics = Counter(map(_TOPIC, outputs))
        metrics.add_all("weir_outputs", topics)
        if DEAD_LETTERS.name in topics:
            letters = (out for out in outputs if out.topic == DEAD_LETTERS.name)
            metrics.add_all(
                "weir_rejects", Counter((find(out.headers, "error_code") or b"?").decode() for out in letters)
            )
        metrics.observe("weir_step_seconds", step_s)
        metrics.observe("weir_commit_seconds", commit_s)
        metrics.observe("weir_save_seconds", save_s)
        metrics.set("weir_input_age_seconds", max(0.0, self._clock.now_ms() - newest_append_time_ms) / 1000)
