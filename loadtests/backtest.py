"""How long a backtest takes: ``python -m loadtests.backtest [--events 1000000]``.

Makes that many decisions with the real handler under a policy of 20 rules, 8 of them on velocity, writes them as the
columns that ``weir policy backtest`` keeps on disk, and then does what the command does: loads a policy, reads the
columns, replays, compares, reports. Counted in the 5 s: all of that. Not counted, because it is done once for each
record ever: turning records of ``decisions.v1`` into columns; its cost is printed beside.

Ends with status 1 when the backtest takes 5 s or more, or when one event comes out otherwise than it was decided.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np

from services.cli.decision_history import _Files, history_of, rows_of
from services.cli.policy_backtest import lines_of
from services.decisions.backtest import replay
from services.decisions.desk import PolicyDesk
from services.decisions.handler import DecisionsHandler
from services.decisions.policy import load_policy
from services.decisions.report import Ledger, Side, compare
from services.mesh.adapters.memory import ManualClock, MemoryBroker, MemoryJournal
from services.mesh.codec import Codec
from services.mesh.feature_set import pinned_feature_set
from services.mesh.ports import InRecord
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import POLICIES

BUDGET_S = 5.0
PARTITIONS = 8
CHUNK = 20_000
DAYS = 80
START_MS = 1_522_540_800_000
PIN = pinned_feature_set()


def twenty_rules() -> str:
    """The default policy with 20 rules: 8 velocity, 12 on amounts, places and scores; fuses, budget, pass-through."""
    text = files("schemas").joinpath("payments/policy.yaml").read_text(encoding="utf-8")
    rules = []
    for number, (of, within) in enumerate(
        [("customer_count", w) for w in ("5m", "1h", "1d", "7d")]
        + [("customer_amount_mean", w) for w in ("1h", "1d", "7d", "30d")]
    ):
        at_least = 30 + number if of == "customer_count" else 400 + 10 * number
        rules.append(
            f"  - {{name: velocity_{number}, velocity: {{of: {of}, within: {within}, at_least: {at_least}}}, "
            f"action: challenge, reason: Velocity., expected_rate: 0.01}}"
        )
    for number in range(6):
        rules.append(
            f"  - {{name: amount_{number}, when: 'amount > {60 + 5 * number} * customer_amount_mean_30d and "
            f"customer_count_30d >= {3 + number}', action: review, reason: Unusual., expected_rate: 0.02}}"
        )
        rules.append(
            f"  - {{name: place_{number}, when: 'terminal_known_fraud_rate_7d > 0.{9 - number} and "
            f'amount > {200 - number} and not channel == "pos"\', action: decline, reason: Place.}}'
        )
    head, rest = text.split("\nrules:\n")
    _, tail = rest.split("\nthresholds:\n")
    tail = tail.replace("share: 0,", "share: 0.05,", 1).replace("\nreview:\n", "\nreview:\n  per_day: 150\n", 1)
    return f"{head}\nrules:\n" + "\n".join(rules) + f"\nthresholds:\n{tail}"


def scores(count: int) -> list[InRecord]:
    """Scored events in their partitions' order, 80 days of event time in all."""
    rng = np.random.default_rng(11)
    codec = Codec("score.v1.avsc")
    customers = rng.integers(0, 5_000, count).tolist()
    amounts = rng.gamma(2.0, 3_000.0, count).astype(np.int64).tolist()
    chosen = rng.beta(0.05, 3.0, count).tolist()
    rows = rng.gamma(1.5, 6.0, (count, len(PIN.names))).astype(np.float32)
    for place, name in enumerate(PIN.names):
        if "rate" in name:
            rows[:, place] = rng.beta(0.1, 5.0, count)
        elif "amount_mean" in name:
            rows[:, place] *= 8
    rows[:, 0] = np.array(amounts) / 100
    rows[rng.random(rows.shape) < 0.01] = np.nan
    step_ms = DAYS * 86_400_000 / count
    ends = dict.fromkeys(range(PARTITIONS), 0)
    records = []
    for number in range(count):
        customer = f"c{customers[number]}"
        partition = customers[number] % PARTITIONS
        event = {
            "event_id": f"e{number}", "customer_id": customer, "terminal_id": f"t{number * 7919 % 10_000}",
            "event_time_ms": START_MS + int(number * step_ms), "amount_minor": amounts[number], "currency": "EUR",
            "channel": ("web", "pos", None)[number % 3], "country": ("FR", "DE", None, "NL")[number % 4],
            "device_id": None, "source_partition": partition, "source_offset": ends[partition],
            "raw_append_time_ms": 1, "event_append_time_ms": 2, "update_append_time_ms": 3,
            "feature_set": PIN.content_hash, "feature_status": "ok" if number % 50 else "stale",
            "vector": rows[number].tobytes(), "features_append_time_ms": 4, "score": chosen[number],
            "model_version": "m1", "split_bucket": 7, "challenger_scores": [], "explanation_status": "none",
            "contributions": [],
        }  # fmt: skip
        records.append(InRecord("scores.v1", partition, ends[partition], 5, customer.encode(), codec.encode(event), ()))
        ends[partition] += 1
    return records


def decided(text: str, records: list[InRecord]) -> tuple[dict[int, list[bytes]], float]:
    """Decisions by partition, by the real handler in batches of 500; and the seconds that it took."""
    clock = ManualClock()
    broker, telemetry = MemoryBroker(1, clock), StageTelemetry("decisions", clock)
    version = load_policy(text, "policy.yaml", PIN.names).version
    release = {"policy_version": version, "author": "loadtests", "why": "backtest", "policy": text}
    broker.produce(POLICIES.name, b"policy", Codec(POLICIES.schemas[0]).encode(release), 0)
    desk = PolicyDesk(MemoryJournal(broker, POLICIES.name), PIN, telemetry)
    desk.open()
    handler = DecisionsHandler(desk, PIN, telemetry, partitions=PARTITIONS)
    values: dict[int, list[bytes]] = {partition: [] for partition in range(PARTITIONS)}
    began_s = time.perf_counter()
    for start in range(0, len(records), 500):
        for emit in handler.step(records[start : start + 500]):
            values[emit.partition or 0].append(emit.value or b"")
    return values, time.perf_counter() - began_s


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    given = parser.parse_args()
    text = twenty_rules()
    values: dict[int, list[bytes]] = {}
    live_s = columns_s = 0.0
    with tempfile.TemporaryDirectory() as folder:
        stores = {partition: _Files(Path(folder), "decisions.v1", partition) for partition in range(PARTITIONS)}
        values, live_s = decided(text, scores(given.events))
        began_s = time.perf_counter()
        for partition, own in values.items():
            for start in range(0, len(own), CHUNK):
                part = own[start : start + CHUNK]
                end = start + len(part)
                stores[partition].add(rows_of(part, range(start, end), PIN), start, end)
        columns_s = time.perf_counter() - began_s
        began_s = time.perf_counter()
        policy = load_policy(text, "policy.yaml", PIN.names)
        columns = {partition: found for partition, store in stores.items() if (found := store.all()) is not None}
        history, _ = history_of(columns, {}, PIN, PARTITIONS)
        read_s = time.perf_counter() - began_s
        ledger = Ledger(history)
        found = replay(history, policy, ledger.columns())
        report = compare(ledger, policy, found, Side(history.action, history.wanted), recorded=True)
        whole_s = time.perf_counter() - began_s
    for line in lines_of(report, policy):
        print(line)
    same, own_count = report.agrees or (0, 0)
    print(f"\nlive handler: {live_s / given.events * 1e6:.1f} us an event")
    print(
        f"records to columns, once for each record: {columns_s:.1f} s, {columns_s / given.events * 1e6:.1f} us an event"
    )
    print(f"backtest of {given.events:,} events, {len(policy.rules)} rules in all: {whole_s:.2f} s")
    print(f"  of which columns from disk {read_s:.2f} s, replay and report {whole_s - read_s:.2f} s")
    print(f"equal to what was decided live: {same:,} of {own_count:,}")
    kept = whole_s < BUDGET_S and same == own_count == given.events
    print(f"budget: {BUDGET_S:g} s and every event equal: {'kept' if kept else 'BROKEN'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
