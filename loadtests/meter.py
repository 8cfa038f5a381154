"""The measuring end, a process of its own: a read_committed consumer of a chain's last topic.

Two latencies of every event, both to the moment at which it is in this process's hands: from the intended time of
sending, and from the broker's append to the chain's first topic. JSON lines: one when its place in every partition is
known, then it reads the time to begin (Unix seconds), one line of progress twice a second, and the result.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from loadtests.bare_hop import read_bare
from loadtests.payloads import number_of
from loadtests.timing import Latencies, Windows
from services.mesh.adapters.kafka_reader import reader_settings
from services.mesh.codec import HEADER_BYTES, read, schema

PROGRESS_S = 0.5
_BATCH_RECORDS_MAX = 5_000

ReadRecord = Callable[[bytes], tuple[bytes, int]]


def read_decision(value: bytes) -> tuple[bytes, int]:
    """event_id and raw append time of a decision, from the fields that every record begins with."""
    event, _ = read(value, HEADER_BYTES, _EVENT.parsed, "decisions.v1")
    return event["event_id"].encode(), event["raw_append_time_ms"]


_EVENT = schema("payments/event.v1.avsc")
READERS: dict[str, ReadRecord] = {"bare": read_bare, "mesh": read_decision}


class Meter:
    """Counts and times the records of one run."""

    def __init__(self, run: str, count: int, rate: float, skip_s: float, read_record: ReadRecord) -> None:
        self._run = run.encode()
        self._count = count
        self._rate = rate
        self._skip = int(skip_s * rate)
        self._read_record = read_record
        self._seen = bytearray(count)
        self.seen = 0
        self.repeated = 0
        self.intended, self.appended, self.windows = Latencies(), Latencies(), Windows()
        self.first_append_ms: int | None = None
        self.last_append_ms = 0

    def note(self, message: Any, begin_s: float, now_s: float) -> None:
        """One record, visible at ``now_s``; records of other runs are none of ours."""
        identity, raw_append_ms = self._read_record(message.value())
        number = number_of(identity, self._run)
        if number is None:
            return
        if self._seen[number]:
            self.repeated += 1
            return
        self._seen[number] = 1
        self.seen += 1
        append_ms = message.timestamp()[1]
        self.first_append_ms = append_ms if self.first_append_ms is None else min(self.first_append_ms, append_ms)
        self.last_append_ms = max(self.last_append_ms, append_ms)
        if number < self._skip:
            return
        self.appended.add(now_s - raw_append_ms / 1000)
        if self._rate:
            sent_s = number / self._rate
            self.intended.add(now_s - begin_s - sent_s)
            self.windows.add(sent_s, now_s - begin_s - sent_s)

    def facts(self) -> dict[str, Any]:
        """The result."""
        return {
            "seen": self.seen,
            "missing": self._count - self.seen,
            "repeated": self.repeated,
            "seconds": (self.last_append_ms - (self.first_append_ms or 0)) / 1000,
            "intended": self.intended.histogram().encode().decode(),
            "appended": self.appended.histogram().encode().decode(),
            "windows": self.windows.rows(),
        }


def at_the_end(kafka: str, topic: str) -> Any:
    """A consumer placed at this moment's end of every partition."""
    consumer = Consumer(reader_settings(kafka, "loadtests.meter") | {"enable.partition.eof": False})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    places = [TopicPartition(topic, number) for number in partitions]
    for place in places:
        place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
    consumer.assign(places)
    return consumer


def follow(consumer: Any, meter: Meter, count: int, begin_s: float, limit_s: float) -> None:
    """Until all of the run's records were seen, or ``limit_s`` seconds after its beginning."""
    progress_s = begin_s
    while meter.seen < count and time.time() < begin_s + limit_s:
        first = consumer.poll(0.1)
        messages = [] if first is None else [first, *consumer.consume(_BATCH_RECORDS_MAX, 0)]
        now_s = time.time()
        for message in messages:
            if message.error() is None:
                meter.note(message, begin_s, now_s)
        if now_s >= progress_s:
            progress_s = now_s + PROGRESS_S
            _say({"at_s": now_s - begin_s, "seen": meter.seen})


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.meter", description="Time what comes out of a chain.")
    add = parser.add_argument
    add("--kafka", required=True)
    add("--topic", required=True)
    add("--chain", choices=sorted(READERS), required=True)
    add("--run", required=True)
    add("--count", type=int, required=True)
    add("--rate", type=float, required=True)
    add("--skip-s", type=float, default=0.0, help="of intended sending time, not measured")
    add("--limit-s", type=float, required=True, help="give up so long after the beginning")
    return parser.parse_args()


def main() -> None:
    """Take a place, wait for the word, follow, report."""
    given = parse()
    meter = Meter(given.run, given.count, given.rate, given.skip_s, READERS[given.chain])
    consumer = at_the_end(given.kafka, given.topic)
    consumer.poll(0.2)  # connected, and fetching
    _say({"ready": True})
    begin_s = float(sys.stdin.readline())
    cpu_before_s = time.process_time()
    follow(consumer, meter, given.count, begin_s, given.limit_s)
    cpu_s = time.process_time() - cpu_before_s
    consumer.close()
    _say({"result": meter.facts() | {"cpu_s": cpu_s}})


def _say(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
