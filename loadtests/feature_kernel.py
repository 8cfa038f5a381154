"""What the feature kernel costs: microseconds an event and bytes a kept event, on Zipf keys.

    python -m loadtests.feature_kernel [--events 400000] [--entities 20000] [--days 80]

A synthetic stream in event-time order: popularity of entities after Zipf (a few are hot, most are not), a share of
events late by up to an hour, each terminal event labelled 7 days later. The first half warms the state and isn't timed.
Figures are CPU time. Budgets are those of the design: 5 us a customer event, 6 us a terminal event; a stage takes the
deltas once a batch.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from random import Random

from services.features.definitions import load_feature_set
from services.features.kernel import View
from services.features.layout import Append, Rewrite, pack, unpack
from services.features.state import EntityState

DAY_MS = 86_400_000
START_MS = 1_522_540_800_000
BUDGET_US = {"customer": 5.0, "terminal": 6.0}
BATCH = 256
FEATURES = Path(__file__).parents[1] / "schemas" / "payments" / "features.yaml"

Event = tuple[int, int, int, int]  # entity, event time, amount, tag
Label = tuple[int, int, int, bool]  # entity, event time, tag, is it fraud


def synthetic(events: int, entities: int, days: float, skew: float, late: float, seed: int) -> list[Event]:
    """Events in arrival order; ``skew`` 0 is uniform, 1 is Zipf; ``late`` is the share that comes up to 1 h late."""
    random = Random(seed)
    keys = random.choices(range(entities), [1 / (rank + 1) ** skew for rank in range(entities)], k=events)
    step_ms = days * DAY_MS / events
    stream: list[Event] = []
    for number, key in enumerate(keys):
        lag_ms = random.randrange(3_600_000) if random.random() < late else 0
        stream.append(
            (key, START_MS + int(number * step_ms) - lag_ms, random.randrange(100, 50_000), random.getrandbits(62))
        )
    return stream


def with_labels(stream: list[Event], delay_ms: int, seed: int) -> Iterator[Event | Label]:
    """The stream with each event's label, 1% of them fraud, ``delay_ms`` of event time later."""
    random = Random(seed)
    waiting: deque[Label] = deque()
    for entity, time_ms, amount, tag in stream:
        while waiting and waiting[0][1] <= time_ms - delay_ms:
            yield waiting.popleft()
        yield entity, time_ms, amount, tag
        waiting.append((entity, time_ms, tag, random.random() < 0.01))


class Bench:
    """One view over one stream."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.states: dict[int, EntityState] = {}
        self.statuses: dict[str, int] = {}
        self.occupancy = view.new_occupancy(1)
        self.stored: dict[int, int] = {}
        self.written_bytes = 0

    def run(self, steps: list[Event | Label]) -> dict[str, float]:
        """Seconds spent in events, labels and deltas."""
        view, states, full, apply = self.view, self.states, self.occupancy, self.view.apply_event
        spent = {"events": 0.0, "labels": 0.0, "deltas": 0.0}
        for start in range(0, len(steps), BATCH):
            batch = steps[start : start + BATCH]
            events = [step for step in batch if not isinstance(step[3], bool)]
            labels = [step for step in batch if isinstance(step[3], bool)]
            for step in batch:
                if step[0] not in states:
                    states[step[0]] = view.new_state()
            begin = time.process_time()
            results = [apply(states[entity], at_ms, amount, 2, tag, full) for entity, at_ms, amount, tag in events]
            after_events = time.process_time()
            for entity, at_ms, tag, is_fraud in labels:
                view.apply_label(states[entity], at_ms, tag, "fraud" if is_fraud else "genuine")
            after_labels = time.process_time()
            deltas = [states[entity].take_delta() for entity in {step[0] for step in batch}]
            spent["deltas"] += time.process_time() - after_labels
            spent["labels"] += after_labels - after_events
            spent["events"] += after_events - begin
            self.written_bytes += sum(map(_bytes_of, deltas))
            for _, status in results:
                self.statuses[status] = self.statuses.get(status, 0) + 1
        return spent


def report(view: View, stream: list[Event | Label]) -> bool:
    """Print one view's figures; whether it keeps its budget."""
    bench = Bench(view)
    half = len(stream) // 2
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bench.run(stream[:half])
    bench.written_bytes = 0
    bench.statuses = {}
    spent = bench.run(stream[half:])
    memory_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) * 1024
    events = sum(bench.statuses.values())
    labels = len(stream) - half - events
    kept = sum(state.exact_events for state in bench.states.values())
    values = [pack(state) for state in bench.states.values()]
    begin = time.process_time()
    for value in values:
        unpack(view, value)
    unpack_us = (time.process_time() - begin) / len(values) * 1e6
    event_us = spent["events"] / events * 1e6
    print(f"{view.name}: {event_us:.2f} us an event (budget {BUDGET_US[view.name]:.0f}), statuses {bench.statuses}")
    print(
        f"  deltas {spent['deltas'] / events * 1e6:.2f} us and {bench.written_bytes / events:.0f} bytes an event",
        end="",
    )
    print(f"; labels {spent['labels'] / labels * 1e6:.2f} us each" if labels else "")
    print(
        f"  {len(values)} entities, {kept} kept events; {sum(map(len, values)) / kept:.1f} bytes each in the store",
        end="",
    )
    print(f", {memory_bytes / kept:.1f} in memory; largest value {max(map(len, values))}; unpack {unpack_us:.1f} us")
    return event_us <= BUDGET_US[view.name]


def _bytes_of(delta: Append | Rewrite | None) -> int:
    return 0 if delta is None else len(delta.data)


def main() -> int:
    """Exit status 1 when a budget is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--entities", type=int, default=20_000)
    parser.add_argument("--days", type=float, default=80.0)
    parser.add_argument("--skew", type=float, default=0.8, help="exponent of Zipf's law; 0 is uniform")
    parser.add_argument("--late", type=float, default=0.01, help="share of events up to 1 h late")
    options = parser.parse_args()
    features = load_feature_set(FEATURES.read_text(), str(FEATURES))
    stream = synthetic(options.events, options.entities, options.days, options.skew, options.late, seed=1)
    gc.freeze()
    customer, terminal = features.views
    is_kept = report(customer, list(stream))
    return 0 if report(terminal, list(with_labels(stream, 7 * DAY_MS, seed=2))) and is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
