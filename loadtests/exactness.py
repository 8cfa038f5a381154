"""Exactly once and bit for bit, while processes die: ``python -m loadtests.exactness --help``.

Starts the whole mesh with several instances of each stage, sends an input at full speed, kills stage processes at
random moments (SIGKILL), empties Redis, tells outcomes of random payments, some of them reversed, and then settles the
account from the log alone:

* every accepted event has exactly one decision;
* every vector with status ``ok`` equals a single-threaded reference that shares no code with the mesh: each view's own
  input, partition by partition, in offset order; ``fallback`` and ``stale`` are counted;
* with ``--input`` of a parquet file in time order: the customer's features and the delayed terminal counts also equal
  the reference over the file itself.

Exit status 0 only when all of it holds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

import pyarrow.parquet
import redis
from confluent_kafka import Consumer, Producer

from loadtests.reference import CustomerReference, TerminalReference, first_difference
from services.mesh.adapters.kafka_reader import KafkaReader, reader_settings
from services.mesh.codec import Codec
from services.mesh.feature_set import pinned_feature_set
from services.mesh.topics import DATA_PARTITIONS_DEFAULT, DECISIONS, EVENTS, FEATURES, OUTCOMES_RAW, UPDATES_TERMINAL
from services.platform.deploy import deploy
from services.platform.observe import Observer
from services.platform.scan import Ledger, scan
from services.platform.servers import Servers, running
from services.platform.stages import simulator_spec, stage_specs
from services.platform.stillness import Stillness
from services.platform.supervisor import State

CUSTOMER_BYTES = 13 * 4
DELAYED_COUNTS = slice(13 * 4, 16 * 4)
EVERYTHING = 1 << 62
DAY_MS = 86_400_000
DAYS_SIMULATED = 5
STAGES_START_S_MAX = 120.0


@dataclass(slots=True)
class Comparison:
    """How served vectors relate to the reference."""

    equal: int = 0
    different: int = 0
    excluded: Counter[str] = field(default_factory=Counter)
    unserved: int = 0
    labels: int = 0  # records that label an event of the view
    first: str = ""

    def add(self, status: str, served: bytes, recomputed: bytes | None, what: str, first_name: int = 0) -> None:
        """Compare one vector."""
        if status in ("fallback", "stale"):
            self.excluded[status] += 1
        elif served == recomputed:
            self.equal += 1
        else:
            self.different += 1
            names = pinned_feature_set().names
            self.first = self.first or (
                f"{what}: {first_difference(served, recomputed or b'', lambda place: names[first_name + place])}"
            )


class Analyst(Thread):
    """Says what a share of the decided payments turned out to be, and of some of them that it was the other thing."""

    def __init__(self, kafka: str, share: float, seed: int) -> None:
        super().__init__(name="analyst", daemon=True)
        self._consumer = Consumer(reader_settings(kafka, "analyst") | {"enable.partition.eof": False})
        self._producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random", "acks": "all"})
        self._share = share
        self._random = random.Random(seed)
        self._stop_flag = Flag()
        self.outcomes = 0

    def run(self) -> None:
        codec = Codec("decision.v1.avsc")
        self._consumer.subscribe([DECISIONS.name])
        while not self._stop_flag.is_set():
            for message in self._consumer.consume(500, 0.1):
                if message.error() is None and self._random.random() < self._share:
                    self._tell(codec.decode(message.value()))
        self._producer.flush(10)
        self._consumer.close()

    def close(self) -> None:
        """Send what is left and stop."""
        self._stop_flag.set()
        self.join(15)

    def _tell(self, decision: dict[str, Any]) -> None:
        labels = self._random.choice((("fraud",), ("genuine",), ("fraud", "genuine"), ("genuine", "fraud")))
        earlier = None
        for label in labels:
            outcome = {
                "outcome_id": f"{label} {decision['event_id']}",
                "event_id": decision["event_id"],
                "customer_id": decision["customer_id"],
                "label": label,
                "source": "analyst",
                "observed_time_ms": decision["event_time_ms"],
                "revises": earlier,
            }
            earlier = outcome["outcome_id"]
            self._producer.produce(OUTCOMES_RAW.name, json.dumps(outcome), decision["customer_id"])
            self.outcomes += 1
        self._producer.poll(0)


class Trial:
    """One run of the mesh under faults."""

    def __init__(self, given: argparse.Namespace, servers: Servers) -> None:
        self._given = given
        self._servers = servers
        self._supervisor = servers.supervisor
        self._kafka = servers.endpoints.kafka
        self._random = random.Random(given.seed)
        self._observer = Observer(self._kafka, servers.data.path / "run")
        self._senders = 0
        self.stages: list[str] = []  # names of all instances
        self.kills: list[str] = []
        self.losses = 0
        self.outcomes = 0

    def start(self) -> None:
        """Deploy step and stages. Raises Fatal."""
        given, endpoints = self._given, self._servers.endpoints
        deploy(endpoints.kafka, endpoints.schema_registry, given.partitions)
        extra = {"WEIR_FEATURE_WAIT_MS_MAX": str(given.feature_wait_ms), "WEIR_ENTITIES_MAX": str(given.entities_max)}
        specs = stage_specs(self._servers.data, endpoints, given.partitions, given.instances, extra)
        for spec in specs:
            self._supervisor.add(spec)
        self.stages = [spec.name for spec in specs]
        self._supervisor.poll()
        self._supervisor.wait_healthy(self.stages, STAGES_START_S_MAX)

    def send(self, days: int, outcomes_share: float) -> None:
        """Send the input (the simulated world's up to ``days``), break things, and wait until all is decided."""
        given = self._given
        analyst = Analyst(self._kafka, outcomes_share, given.seed)
        analyst.start()
        world = ("--days", str(days), "--dirty", str(given.dirty), "--customers", str(given.customers))
        arguments = ("--input", given.input) if given.input else world
        spec = simulator_spec(self._servers.data, self._servers.endpoints, (*arguments, "--speed", "max"))
        self._senders += 1
        sender = replace(spec, name=f"{spec.name}-{self._senders}")
        self._supervisor.add(sender)
        self._send_and_break(sender.name, given.kills - len(self.kills), given.losses - self.losses)
        analyst.close()
        self.outcomes += analyst.outcomes
        self._drain()

    def settled(self) -> Ledger:
        """The account, from the log alone."""
        return scan(self._kafka, self._observer.committed())

    def _send_and_break(self, sender: str, kills: int, losses: int) -> None:
        """Faults spread over the sending; what is left of them when it ends happens at once, and during the drain."""
        faults = ["kill"] * kills + ["lose"] * losses
        self._random.shuffle(faults)
        next_s = time.monotonic() + self._pause_s()
        while (is_sending := self._runs(sender)) or faults:
            self._supervisor.poll()
            if faults and (time.monotonic() >= next_s or not is_sending):
                self._break(faults.pop())
                next_s = time.monotonic() + self._pause_s()
            time.sleep(0.05)

    def _pause_s(self) -> float:
        return self._random.uniform(0.5, 1.5) * float(self._given.fault_every_s)

    def _break(self, fault: str) -> None:
        if fault == "lose":
            with redis.Redis.from_url(self._servers.endpoints.redis) as client:
                client.flushall()
            self.losses += 1
            _say("Redis emptied")
            return
        running_ones = [name for name in self.stages if self._supervisor.pid(name) is not None]
        name = self._random.choice(running_ones)
        os.kill(self._supervisor.pid(name) or 0, signal.SIGKILL)
        self.kills.append(name)
        _say(f"killed {name}")

    def _runs(self, name: str) -> bool:
        return next(child.state for child in self._supervisor.status() if child.name == name) is not State.DONE

    def _drain(self) -> None:
        stillness, lag = Stillness(time.monotonic()), -1
        while not stillness.is_over(time.monotonic(), lag, 0, all_ready=self._supervisor.healthy(self.stages)):
            time.sleep(0.1)
            self._supervisor.poll()
            lag = sum(self._observer.lags().values())
        _say(f"drained, lag {lag}")


def first_days(file: str, days: int, target: Path) -> str:
    """A copy of the parquet ``file``, up to so many days after its first event; its path."""
    with pyarrow.parquet.ParquetFile(file) as source, pyarrow.parquet.ParquetWriter(target, source.schema_arrow) as out:
        end_ms: int | None = None
        for batch in source.iter_batches():
            times_ms = batch.column("event_time_ms").to_numpy()
            end_ms = end_ms or int(times_ms[0]) + days * DAY_MS
            within = int((times_ms < end_ms).sum())  # in time order, so that is where it ends
            out.write_batch(batch.slice(0, within))
            if within < len(batch):
                break
    return str(target)


def compare_views(kafka: str, partitions: int) -> tuple[Comparison, Comparison]:
    """Served vectors against the reference in log order: the customer view's, then the terminal view's."""
    customer, terminal = Comparison(), Comparison()
    recomputed: dict[tuple[str, str], bytes] = {}
    event_codec, update_codec, features_codec = (
        Codec(name) for name in ("payments/event.v1.avsc", "terminal_update.v1.avsc", "features.v1.avsc")
    )
    for event in _decoded(kafka, EVENTS.name, partitions, event_codec, CustomerReference):
        reference, record = event
        vector = reference.event(record["customer_id"], record["event_time_ms"], record["amount_minor"])
        recomputed[(record["customer_id"], record["event_id"])] = vector
    whole: dict[tuple[str, str], bytes] = {}
    for reference, record in _decoded(kafka, UPDATES_TERMINAL.name, partitions, update_codec, TerminalReference):
        update = record["update"]
        identity = (update["customer_id"], update["event_id"])
        if "label" in update:
            terminal.labels += 1
            reference.label(update["terminal_id"], *identity, update["event_time_ms"], update["label"] == "fraud")
            continue
        customer.add(
            update["customer_status"], update["customer_vector"], recomputed.pop(identity, None), str(identity)
        )
        whole[identity] = update["customer_vector"] + reference.event(
            update["terminal_id"], *identity, update["event_time_ms"]
        )
    customer.unserved = len(recomputed)
    for _, record in _decoded(kafka, FEATURES.name, partitions, features_codec, object):
        identity = (record["customer_id"], record["event_id"])
        terminal.add(record["feature_status"], record["vector"], whole.pop(identity, None), str(identity))
    terminal.unserved = len(whole)
    return customer, terminal


def compare_file(kafka: str, partitions: int, file: str) -> Comparison:
    """Customer features and delayed terminal counts against the input file in its own order."""
    result = Comparison()
    customers, terminals = CustomerReference(), TerminalReference()
    expected: dict[str, bytes] = {}
    for batch in pyarrow.parquet.ParquetFile(file).iter_batches():
        for row in batch.to_pylist():
            event, customer, time_ms = row["event_id"], row["customer_id"], row["event_time_ms"]
            vector = customers.event(customer, time_ms, row["amount_minor"])
            counts = terminals.event(row["terminal_id"], customer, event, time_ms)[:12]
            expected[event] = vector + counts
    for _, record in _decoded(kafka, FEATURES.name, partitions, Codec("features.v1.avsc"), object):
        served = record["vector"][:CUSTOMER_BYTES] + record["vector"][DELAYED_COUNTS]
        result.add(record["feature_status"], served, expected.get(record["event_id"]), record["event_id"])
    return result


def _decoded(kafka: str, topic: str, partitions: int, codec: Codec, make_state: Any) -> Any:
    """(state of the partition, record) for every record, partition by partition, in offset order."""
    reader = KafkaReader(kafka, topic, "loadtests.exactness")
    for partition in range(partitions):
        state = make_state()
        for records in reader.read(partition, 0, EVERYTHING):
            for record in records:
                yield state, codec.decode(record.value)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the log says."""

    ledger: Ledger
    comparisons: dict[str, Comparison]

    @property
    def holds(self) -> bool:
        """Everything accepted is decided exactly once, with the vector of the reference; outcomes are in one place."""
        ledger = self.ledger
        wrong = ledger.is_wrong or ledger.unreadable
        return (
            not (wrong or ledger.undecided or ledger.unjudged)
            and bool(ledger.accepted)
            and all(c.equal and not c.different and not c.unserved for c in self.comparisons.values())
        )


def judge(given: argparse.Namespace, kafka: str, ledger: Ledger) -> Verdict:
    """Compare what was served with the reference, from the log alone."""
    customer, terminal = compare_views(kafka, given.partitions)
    comparisons = {"customer": customer, "terminal": terminal}
    if given.input.endswith(".parquet"):
        comparisons["file in time order"] = compare_file(kafka, given.partitions, given.input)
    return Verdict(ledger, comparisons)


def report(given: argparse.Namespace, trial: Trial, verdict: Verdict) -> None:
    """Print what was found."""
    ledger = verdict.ledger
    _say(f"faults: {len(trial.kills)} SIGKILLs ({dict(Counter(trial.kills))}), {trial.losses} losses of all Redis data")
    _say(f"events in {ledger.events_in:,}, accepted {ledger.accepted:,}, dead letters {dict(ledger.rejects)}")
    _say(
        f"decisions {ledger.decisions:,}: missing {ledger.missing}, duplicates {ledger.duplicates}, undecided "
        f"{ledger.undecided + ledger.unjudged}; {trial.outcomes:,} outcomes told, "
        f"{verdict.comparisons['terminal'].labels:,} labels"
    )
    outcomes = ledger.outcomes
    assert outcomes is not None, "without a deadline there is time for all"
    _say(
        f"outcomes accepted {outcomes.accepted:,}: joined {outcomes.joined:,}, pending {outcomes.pending:,}, orphans "
        f"{sum(outcomes.orphans.values()):,}; lost {outcomes.lost}, in two places {outcomes.doubled}"
    )
    for name, comparison in verdict.comparisons.items():
        excluded = dict(comparison.excluded)
        _say(f"{name}: {comparison.equal:,} equal, {comparison.different} different, {comparison.unserved} unserved, "
             f"excluded {excluded} {comparison.first}")  # fmt: skip
    _say("HOLDS" if verdict.holds else "BROKEN")
    if given.json:
        found = {"holds": verdict.holds, "accepted": ledger.accepted, "kills": len(trial.kills)}
        sys.stdout.write(json.dumps(found) + "\n")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.exactness",
        description="Kill processes, empty Redis, and prove that nothing was lost, doubled or computed differently.",
        epilog="example: python -m loadtests.exactness --input payments.parquet --kills 20 --losses 1",
    )
    add = parser.add_argument
    add("--input", default="", help=".parquet in time order (default: the built-in simulator)")
    add("--days", type=int, default=None, help="of the simulated world (default: 5) or of the file (default: all)")
    add(
        "--dirty", type=float, default=0.02, help="share of late, repeated, conflicting, broken records (default: 0.02)"
    )
    add("--customers", type=int, default=5_000, help="in the simulated world (default: 5000)")
    add("--instances", type=int, default=3, help="processes of each stage (default: 3)")
    add("--partitions", type=int, default=DATA_PARTITIONS_DEFAULT)
    add("--kills", type=int, default=20)
    add("--losses", type=int, default=1)
    add("--fault-every-s", type=float, default=5.0, help="mean pause between faults (default: 5)")
    add("--outcomes-share", type=float, default=0.02, help="of decisions whose outcome is told (default: 0.02)")
    add("--feature-wait-ms", type=int, default=60_000, help="how long a decision waits for state (default: 60000)")
    add("--entities-max", type=int, default=500_000, help="entities a process keeps in memory (default: 500000)")
    add("--seed", type=int, default=1)
    add("--json", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """0 when everything holds."""
    given = parse(arguments)
    days = given.days or DAYS_SIMULATED
    with tempfile.TemporaryDirectory(prefix="weir-exactness-") as directory:

        def tell(name: str, what: str) -> None:
            _say(f"{name}: {what}")

        with running(Path(directory) / "data", tell) as servers:
            if given.input and given.days:
                given.input = first_days(given.input, given.days, Path(directory) / "first_days.parquet")
            trial = Trial(given, servers)
            trial.start()
            trial.send(days, given.outcomes_share)
            verdict = judge(given, servers.endpoints.kafka, trial.settled())
            report(given, trial, verdict)
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    sys.exit(main())
