"""The open-loop load generator, a process of its own: sends record i at ``begin + i / rate``, whatever the mesh does.

Open loop: it never waits for answers, so a slow mesh meets the load that it would meet in life, and every latency is
counted from the *intended* time of sending (no coordinated omission). It talks JSON lines: one when everything is
encoded, then it reads the time to begin (Unix seconds) from its input, and one line when all is sent.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from typing import Any

from confluent_kafka import Producer

from loadtests.payloads import Load, payments

# Records due within one tick go together: 2 ms of lateness at most, a hundredth of what is measured.
TICK_S = 0.002
FLUSH_S_MAX = 60.0


def settings(kafka: str) -> dict[str, Any]:
    """A producer as an outside sender would set it up, with a short linger."""
    return {
        "bootstrap.servers": kafka,
        "client.id": "loadtests.generator",
        "partitioner": "murmur2_random",
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 5,
        "queue.buffering.max.messages": 2_000_000,
        "queue.buffering.max.kbytes": 1_048_576,
    }


def send(producer: Any, topic: str, load: Load, rate: float, begin_s: float) -> float:
    """Send all of ``load``; ``rate`` 0 is as fast as possible. Returns the worst lateness in seconds."""
    keys, values, total = load.keys, load.values, len(load.values)
    sent, late_s_max = 0, 0.0
    while sent < total:
        elapsed_s = time.time() - begin_s
        if elapsed_s < 0:
            time.sleep(-elapsed_s)
            continue
        due = min(total, int(elapsed_s * rate) + 1) if rate else min(total, sent + 1_000)
        if rate and due > sent:
            late_s_max = max(late_s_max, elapsed_s - sent / rate)
        for number in range(sent, due):
            try:
                producer.produce(topic, values[number], keys[number])
            except BufferError:
                producer.poll(0.05)
                producer.produce(topic, values[number], keys[number])
        sent = due
        producer.poll(0)
        if rate:
            time.sleep(TICK_S)
    return late_s_max


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.generator", description="Send payments, open loop.")
    add = parser.add_argument
    add("--kafka", required=True)
    add("--topic", required=True)
    add("--run", required=True, help="begins every event id")
    add("--count", type=int, required=True)
    add("--rate", type=float, required=True, help="events a second; 0: as fast as possible")
    add("--place", type=int, nargs=2, default=(0, 0), help="in the simulated world: a day, a payment's number in it")
    add("--seed", type=int, default=1, help="of the simulated world")
    return parser.parse_args()


def main() -> None:
    """Encode, wait for the word, send, report."""
    given = parse()
    load = payments(given.run, given.count, tuple(given.place), given.seed)
    producer = Producer(settings(given.kafka))
    producer.list_topics(given.topic, timeout=10)  # connected before the first record is due
    gc.freeze()
    gc.disable()  # a collection over a million payloads would be the generator's own hiccup
    _say({"ready": len(load.values), "next_place": load.next_place, "bytes_mean": _mean(load)})
    begin_s = float(sys.stdin.readline())
    cpu_before_s = time.process_time()
    late_s_max = send(producer, given.topic, load, given.rate, begin_s)
    unsent = producer.flush(FLUSH_S_MAX)
    _say({"unsent": unsent, "late_ms_max": 1000 * late_s_max, "cpu_s": time.process_time() - cpu_before_s})


def _mean(load: Load) -> float:
    return sum(map(len, load.values)) / len(load.values)


def _say(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
