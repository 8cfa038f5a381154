"""What a policy costs per event, by batch size: ``python -m loadtests.policy_cost``.

Two policies: the default one, and one of 50 generated rules of the kinds that people write (velocity, amounts, ratios,
lists, times of day, negations), each with a fuse. Prints microseconds per event at batches of 1, 16, 128, 1,000 and
1,000,000 events, the best of several runs: once for the verdicts alone, and once as live decisions do it, with fuses
counted and every condition told of the events that were not simply approved. Beside it the same 50 conditions alone in
zen-engine and CEL. Ends with status 1 when the 50 rules live cost 5 us or more per event in batches of 128 and above.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from importlib.resources import files

import numpy as np

from loadtests.policy_engines import beside
from services.decisions.expression import Columns
from services.decisions.flow import FuseWatch, PartitionState
from services.decisions.policy import Policy, load_policy

BATCHES = (1, 16, 128, 1_000, 1_000_000)
BUDGET_US = 5.0  # per event, 50 rules, in batches
BUDGET_FROM_BATCH = 128  # what two cores carry at 4,000 events/s in polls of 10 ms over 8 partitions is 40 to 300
LIVE_ROWS_MAX = 500  # the runtime's largest batch
WINDOWS = ("5m", "1h", "1d", "7d", "30d")
TERMINAL_WINDOWS = ("1d", "7d", "30d")
FEATURES = (
    "amount",
    "is_weekend",
    "is_night",
    *(f"customer_{kind}_{window}" for kind in ("count", "amount_mean") for window in WINDOWS),
    *(f"terminal_{kind}_{window}_delay_7d" for kind in ("count", "fraud_rate") for window in TERMINAL_WINDOWS),
    *(f"terminal_known_{kind}_{window}" for kind in ("fraud_rate", "labels") for window in TERMINAL_WINDOWS),
)


def fifty_rules(default: str, seed: int = 7) -> str:
    """Return the default policy with its rules replaced by 50 generated ones, ten of each of five kinds."""
    draw = random.Random(seed)

    def conditions() -> Sequence[str]:
        count, mean = f"customer_count_{draw.choice(WINDOWS)}", f"customer_amount_mean_{draw.choice(WINDOWS)}"
        rate = f"terminal_known_fraud_rate_{draw.choice(TERMINAL_WINDOWS)}"
        return (
            f"{count} >= {draw.randint(20, 90)} and amount < {draw.randint(5, 50)} and score > 0.{draw.randint(1, 9)}",
            f"amount > {draw.randint(3, 30)} * {mean} and {count} >= 10 or amount >= {draw.randint(5, 50)}00",
            f"{rate} >= 0.{draw.randint(3, 9)} and not terminal_known_labels_7d < {draw.randint(2, 20)}",
            f'country in ["A{draw.randint(0, 9)}", "BR"] and channel == "ecom" and amount > {draw.randint(100, 400)}',
            f"hour_utc(event_time_ms) < {draw.randint(2, 6)} and customer_id in watched and {mean} > 100",
        )

    rules = [condition for _ in range(10) for condition in conditions()]
    actions = ("challenge", "review", "decline")
    lines = [
        f"  - {{name: rule_{index}, when: '{when}', action: {draw.choice(actions)}, reason: Generated rule {index}., "
        f"expected_rate: 0.{draw.randint(1, 5)}}}"
        for index, when in enumerate(rules)
    ]
    head, rest = default.split("\nrules:\n")
    watched = ", ".join(f"c{draw.randint(0, 5_000)}" for _ in range(1_000))
    watched = ", ".join(dict.fromkeys(watched.split(", ")))
    _, tail = rest.split("\nthresholds:\n")
    return (
        head.replace("\nlists:\n", f"\nlists:\n  watched: {{of: customer_id, values: [{watched}]}}\n")
        + "\nrules:\n"
        + "\n".join(lines)
        + f"\nthresholds:\n{tail}"
    )


def events(rows: int, seed: int = 7) -> dict[str, np.ndarray]:
    """Return columns of plausible events: a (rows, 25) float32 matrix seen by columns, 2% NaN, rare high scores."""
    rng = np.random.default_rng(seed)
    matrix = rng.gamma(2.0, 10.0, (rows, len(FEATURES))).astype(np.float32)
    # Few pay often in a short time: velocity rules hit some events in a thousand, as rules do.
    for window, scale in zip(WINDOWS, (0.1, 0.2, 0.5, 1.0, 2.0), strict=True):
        matrix[:, FEATURES.index(f"customer_count_{window}")] *= scale
        matrix[:, FEATURES.index(f"customer_amount_mean_{window}")] = rng.gamma(8.0, 10.0, rows)
    matrix[:, [index for index, name in enumerate(FEATURES) if "rate" in name]] = rng.beta(0.1, 5.0, (rows, 1))
    matrix[rng.random(matrix.shape) < 0.02] = np.nan
    amount_minor = rng.gamma(2.0, 4_000.0, rows).astype(np.int64)

    def texts(values: Sequence[str | None]) -> np.ndarray:
        return np.array(values, dtype=object)[rng.integers(0, len(values), rows)]

    columns: dict[str, np.ndarray] = {name: matrix[:, index] for index, name in enumerate(FEATURES)}
    columns |= {
        "customer_id": texts([f"c{index}" for index in range(5_000)]),
        "terminal_id": texts([f"t{index}" for index in range(10_000)]),
        "event_id": texts([f"e{index}" for index in range(10_000)]),
        "currency": texts(["EUR", "EUR", "EUR", "USD", "JPY"]),
        "channel": texts(["pos", "ecom", None]),
        "country": texts(["FR", "DE", "BR", "A1", "A2", None]),
        "device_id": texts([None, "d1", "d2"]),
        "amount_minor": amount_minor,
        "amount": amount_minor / 100.0,
        "event_time_ms": 1_522_540_800_000 + rng.integers(0, 80 * 86_400_000, rows),
        "score": rng.beta(0.05, 5.0, rows),
        "challenger_gap": np.full(rows, np.nan),
        "missing_features": np.zeros(rows),
        "model_version": texts(["m-1"]),
        "feature_status": texts(["ok"]),
    }
    return columns


def cost_us(decide: Callable[[dict[str, np.ndarray]], object], columns: Columns, batch: int) -> float:
    """Return microseconds per event for one batch size: the best of several runs over the same events."""
    part = {name: column[:batch] for name, column in columns.items()}
    decide(part)  # resolve the patterns, as any process has after its first second
    repeats = max(1, min(300, 20_000 // batch))
    best = float("inf")
    for _ in range(2 if batch >= 100_000 else 7):
        began = time.process_time()  # a neighbour's work is not ours
        for _ in range(repeats):
            decide(part)
        best = min(best, (time.process_time() - began) / repeats)
    return best / batch * 1e6


def live(policy: Policy) -> Callable[[dict[str, np.ndarray]], object]:
    """As ``deciding.py`` does it, for a batch of one partition."""
    state = PartitionState()

    def decide(columns: dict[str, np.ndarray]) -> object:
        rows = len(columns["score"])
        told: list[bytes] = []
        for start in range(0, rows, LIVE_ROWS_MAX):
            part = {name: columns[name][start : start + LIVE_ROWS_MAX] for name in policy.reads}
            watch = FuseWatch(policy, [state], [slice(None)], columns["event_time_ms"][start : start + LIVE_ROWS_MAX])
            judged = policy.evaluator.judge(part, watch)
            asked = judged.rows_where(lambda outcome: not outcome.plain)
            if asked:
                told += policy.trace.keys(judged, asked)
        return told

    return decide


def main() -> int:
    default = files("schemas").joinpath("payments/policy.yaml").read_text(encoding="utf-8")
    policies = {"default policy": default, "50 rules": fifty_rules(default)}
    columns = events(max(BATCHES))
    columns["event_time_ms"] = np.sort(columns["event_time_ms"])  # in the log's order
    print("us per event" + " " * 12 + "".join(f"{f'batch {batch:,}':>18}" for batch in BATCHES))
    within = True
    for name, text in policies.items():
        policy = load_policy(text, name, FEATURES)
        for kind, decide in (("verdicts", policy.decide), ("live", live(policy))):
            costs = {batch: cost_us(decide, columns, batch) for batch in BATCHES}
            print(f"{name + ', ' + kind:<24}" + "".join(f"{cost:>18.2f}" for cost in costs.values()))
            if (name, kind) == ("50 rules", "live"):
                within = all(cost < BUDGET_US for batch, cost in costs.items() if batch >= BUDGET_FROM_BATCH)
    watched = next(rule for rule in policy.rules if "watched" in rule.condition.source).condition
    on_list = next(leaf for leaf in watched.leaves if leaf.text == "customer_id in watched")
    noted: dict[object, np.ndarray] = {name: column[:2_000] for name, column in columns.items()}
    watched.noting(noted)
    columns["is_watched"] = noted[on_list]
    for engine, (cost, agrees) in beside(policy, columns).items():
        print(f"50 conditions, {engine:<12}{cost:>15.1f} each event by itself; agrees with ours on {agrees:.2%}")
    print(
        f"budget: 50 rules live below {BUDGET_US:g} us from batches of {BUDGET_FROM_BATCH}: "
        f"{'kept' if within else 'BROKEN'}"
    )
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
