"""Follows ``decisions.v1`` as any consumer would (read_committed) and measures what it sees.

Latency is from the broker's append to ``events.raw.v1`` to the moment at which the decision is visible here. One thread
of the supervisor's process; it decodes only the fields that every event begins with.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from threading import Event as Flag
from threading import Lock, Thread
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from services.mesh.adapters.kafka_reader import reader_settings
from services.mesh.codec import HEADER_BYTES, Codec, read, schema
from services.mesh.errors import Poison
from services.mesh.topics import DECISIONS
from services.platform.latency import LatencyCounts, percentiles_of

_BATCH_RECORDS_MAX = 2_000
_WAIT_S = 0.05
# Decoding a whole decision costs three times its beginning; the mix and the models in force show in a sample.
_SAMPLE_EVERY = 16
_ALL_SAMPLED = 1_000  # a run of a few decisions shows its mix too
_RECENT_LOOKS = 5


class DecisionTail:
    """Counts and times decisions from now on."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        self._consumer = Consumer(reader_settings(bootstrap, "weir.tail") | {"enable.partition.eof": False})
        # The end of each partition at this moment, not "latest": a lazy look-up would miss what comes meanwhile.
        starts = []
        for partition in range(partitions):
            _, end = self._consumer.get_watermark_offsets(TopicPartition(DECISIONS.name, partition), timeout=10)
            starts.append(TopicPartition(DECISIONS.name, partition, end))
        self._consumer.assign(starts)
        self._event = schema("payments/event.v1.avsc").parsed
        self._decision = Codec("decision.v1.avsc")
        self.served: dict[str, int] = {}  # model version -> event time of its first sampled decision, in order
        self.actions: Counter[str] = Counter()  # of the sampled decisions
        self._lock = Lock()
        self._stop = Flag()
        self.latency = LatencyCounts()
        self._recent: deque[Counter[int]] = deque([Counter()], maxlen=_RECENT_LOOKS)  # latencies between two looks
        self.unreadable = 0
        self.first_append_ms: int | None = None
        self.last_append_ms: int | None = None
        self.newest_event_time_ms = 0
        self._thread = Thread(target=self._follow, name="tail", daemon=True)
        self._thread.start()

    @property
    def decisions(self) -> int:
        """How many were seen."""
        return self.latency.total

    @property
    def rate_per_s(self) -> float:
        """From the first to the last decision, by the broker's clock."""
        if self.first_append_ms is None or self.last_append_ms is None or self.last_append_ms <= self.first_append_ms:
            return 0.0
        return 1000.0 * (self.decisions - 1) / (self.last_append_ms - self.first_append_ms)

    def percentiles(self) -> dict[str, int | None]:
        """Latency percentiles so far, in milliseconds."""
        with self._lock:
            return self.latency.percentiles()

    def recent_percentiles(self) -> dict[str, int | None]:
        """Latency percentiles since the fifth look before this one, in milliseconds."""
        with self._lock:
            recent = sum(self._recent, Counter())
            self._recent.append(Counter())
        return percentiles_of(sorted(recent.items()), recent.total())

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        self._thread.join(5)
        self._consumer.close()

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                messages = self._consumer.consume(_BATCH_RECORDS_MAX, _WAIT_S)
            except KafkaException:
                self._stop.wait(0.5)  # the broker is away; the client reconnects by itself
                continue
            now_ms = time.time_ns() // 1_000_000
            with self._lock:
                for message in messages:
                    if message.error() is None:
                        self._take(message, now_ms)

    def _take(self, message: Any, now_ms: int) -> None:
        try:
            self._note(message, now_ms)
        except Poison:
            self.unreadable += 1  # anybody can write to a topic; the scan counts it too

    def _note(self, message: Any, now_ms: int) -> None:
        event, _ = read(message.value() or b"", HEADER_BYTES, self._event, DECISIONS.name)
        append_ms = message.timestamp()[1]
        latency_ms = now_ms - event["raw_append_time_ms"]
        self.latency.add(latency_ms)
        self._recent[-1][latency_ms] += 1
        self.first_append_ms = append_ms if self.first_append_ms is None else min(self.first_append_ms, append_ms)
        self.last_append_ms = max(self.last_append_ms or 0, append_ms)
        self.newest_event_time_ms = max(self.newest_event_time_ms, event["event_time_ms"])
        if self.latency.total <= _ALL_SAMPLED or self.latency.total % _SAMPLE_EVERY == 0:
            decision = self._decision.decode(message.value())
            self.served.setdefault(decision["model_version"], decision["event_time_ms"])
            self.actions[decision["action"]] += 1
