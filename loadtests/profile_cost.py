"""What counting into profiles costs an event: ``python -m loadtests.profile_cost``.

Synthetic events in batches as stages see them, 8,000 a virtual day at 6,000/s, so that windows and cells change as fast
as in a replay of a file; the encoding of each profile is in the figure. Prints microseconds an event by stage and batch
size, the best of several runs, and ends with status 1 above the budget in batches of 128 and more.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from services.ingestion.intake import EVENT_INTAKE
from services.mesh.feature_set import pinned_feature_set
from services.mesh.profile import TELL_EVERY_S, FieldCounts, ProfileWriter, ScoredCounts
from services.mesh.reference import feature_reference

EVENTS = 60_000
EVENTS_A_DAY = 8_000
DAY_MS = 86_400_000
RATE_PER_S = 6_000
BATCHES = (16, 128, 500)
BUDGET_US = 2.0  # per event and stage
BUDGET_FROM_BATCH = 128
RUNS = 5


def events() -> list[dict[str, object]]:
    rng = np.random.default_rng(5)
    channels, countries = rng.choice(["pos", "web", "moto"], EVENTS), rng.choice(["FR", "DE", "NL", "BE", "IT"], EVENTS)
    amounts = rng.lognormal(8, 1, EVENTS).astype(int).tolist()
    return [
        {"event_time_ms": n * DAY_MS // EVENTS_A_DAY, "channel": str(channels[n]), "country": str(countries[n]),
         "currency": "EUR", "device_id": None if n % 3 else "d", "amount_minor": amounts[n], "model_version": "m-1",
         "feature_status": "ok", "action": "approve" if n % 50 else "review"}
        for n in range(EVENTS)
    ]  # fmt: skip


def drive(batch: int, writer: ProfileWriter, add: Callable[[int, int], None]) -> float:
    """Microseconds an event of adding and telling, at RATE_PER_S."""
    writer.assign(0, 0)
    spent_s, told = 0.0, 0
    for start in range(0, EVENTS, batch):
        end = min(EVENTS, start + batch)
        began_s = time.process_time()
        add(start, end)
        told += len(writer.report(start / RATE_PER_S, {0: end}, last=False))
        spent_s += time.process_time() - began_s
    assert told >= EVENTS / RATE_PER_S / TELL_EVERY_S - 1
    return spent_s / EVENTS * 1e6


def main() -> int:
    names = pinned_feature_set().names
    rng = np.random.default_rng(6)
    rows = rng.lognormal(2, 1, (EVENTS, len(names))).astype(np.float32)
    scores = rng.beta(0.5, 40, EVENTS)
    _, bins = feature_reference(rows[:5_000], np.zeros(5_000, dtype=np.int64))
    happened = events()

    def scoring(batch: int) -> float:
        counts = ScoredCounts()
        counts.model("m-1", bins)

        def add(start: int, end: int) -> None:
            part = happened[start:end]
            counts.add(
                ["m-1"] * len(part), scores[start:end], [e["event_time_ms"] for e in part],
                [e["channel"] for e in part], rows=rows[start:end], exact=[e["feature_status"] == "ok" for e in part],
            )  # type: ignore[arg-type]  # fmt: skip

        return drive(batch, ProfileWriter("scoring", "0", counts.take, counts.__len__), add)

    def decisions(batch: int) -> float:
        counts = ScoredCounts()

        def add(start: int, end: int) -> None:
            part = happened[start:end]
            counts.add(
                [e["model_version"] for e in part], scores[start:end], [e["event_time_ms"] for e in part],
                [e["channel"] for e in part], actions=[e["action"] for e in part],
            )  # type: ignore[arg-type]  # fmt: skip

        return drive(batch, ProfileWriter("decisions", "0", counts.take, counts.__len__), add)

    def ingestion(batch: int) -> float:
        fields, key = FieldCounts(), EVENT_INTAKE.counted
        assert key is not None

        def add(start: int, end: int) -> None:
            part = happened[start:end]
            keys, amounts = zip(*[key(e) for e in part], strict=True)
            fields.add(keys, amounts, max([e["event_time_ms"] for e in part]))  # type: ignore[type-var]

        return drive(batch, ProfileWriter("ingestion", "0", fields.take, fields.__len__), add)

    over = []
    print(f"{len(names)} features, us an event   " + "".join(f"batch {batch:>4}   " for batch in BATCHES))
    for stage in (scoring, decisions, ingestion):
        best = {batch: min(stage(batch) for _ in range(RUNS)) for batch in BATCHES}
        print(f"{stage.__name__:<26}" + "".join(f"{us:>10.2f}   " for us in best.values()))
        over += [stage.__name__ for batch, us in best.items() if batch >= BUDGET_FROM_BATCH and us > BUDGET_US]
    if over:
        print(f"over {BUDGET_US} us: {', '.join(over)}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
