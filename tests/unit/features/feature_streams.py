"""Streams that hit edges: times on window bounds and a millisecond beside, ties, late events, labels, reversals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from hypothesis import strategies as st

from services.features.definitions import load_feature_set
from services.features.kernel import View
from services.features.occupancy import BYTES_AN_EVENT

FEATURES_PATH = Path(__file__).parents[3] / "schemas" / "payments" / "features.yaml"
FEATURES_TEXT = FEATURES_PATH.read_text()
FEATURES = load_feature_set(FEATURES_TEXT, "features.yaml")
CUSTOMER, TERMINAL = FEATURES.views

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
START = 1_522_540_800_000


def limited(view: View, exact_events_max: int) -> View:
    """``view`` with so many exact events an entity (its state's mark stays the same)."""
    return replace(view, exact_events_max=exact_events_max)


def squeezed(view: View, events_max: int) -> View:
    """``view`` with a budget of so many events."""
    return replace(view, memory_bytes=events_max * BYTES_AN_EVENT)


@dataclass(frozen=True)
class EventStep:
    entity: str
    time_ms: int
    amount_minor: int
    exponent: int
    tag: int


@dataclass(frozen=True)
class LabelStep:
    entity: str
    time_ms: int
    tag: int
    label: str
    is_revision: bool


@dataclass(frozen=True)
class StoreStep:
    """The owner writes what changed, and may forget the entities."""

    forgets: bool


Step = EventStep | LabelStep | StoreStep

# Advances of the clock: often a window, a delay or a tile exactly, or a millisecond beside one.
_EDGES = [0, 1, 1000, 5 * MINUTE, HOUR, DAY, 7 * DAY, 8 * DAY, 14 * DAY, 30 * DAY, 31 * DAY, 37 * DAY, 38 * DAY]
_LATE = [0, 0, 0, 1, 5 * MINUTE, HOUR, 6 * HOUR, DAY, 2 * DAY, 8 * DAY, 30 * DAY, 31 * DAY, 38 * DAY]


def stream(random: Random, steps: int, entities: int, quick: bool) -> list[Step]:
    """A stream drawn from ``random``; ``quick`` keeps the clock slow, so that many events are kept at once."""
    clock_ms = START
    made: list[Step] = []
    events: list[EventStep] = []
    labels: dict[int, str] = {}
    for _ in range(steps):
        kind = random.random()
        if kind < 0.65 or not events:
            edge = random.choice(_EDGES[:5] if quick and random.random() < 0.97 else _EDGES)
            clock_ms += max(0, edge + random.choice((-1, 0, 0, 1, random.randrange(HOUR))))
            late_ms = random.choice(_LATE) if random.random() < 0.3 else 0
            event = EventStep(
                entity=f"e{random.randrange(entities)}",
                time_ms=clock_ms - late_ms,
                amount_minor=random.choice((0, 1, 99, 10_000, random.randrange(10**7))),
                exponent=random.choice((0, 2, 2, 3, 4)),
                tag=random.getrandbits(62),
            )
            events.append(event)
            made.append(event)
        elif kind < 0.92:
            event = random.choice(events[-40:])
            former = labels.get(event.tag, "")
            label = random.choice(("fraud", "genuine"))
            if label != former:
                labels[event.tag] = label
                made.append(LabelStep(event.entity, event.time_ms, event.tag, label, bool(former)))
        else:
            made.append(StoreStep(forgets=random.random() < 0.5))
    return made


# A seed and a length instead of a list of steps: a failing example shrinks in its length, in a second, not in minutes.
streams = st.builds(
    lambda seed, steps, entities, quick: stream(Random(seed), steps, entities, quick),
    seed=st.integers(0, 2**32),
    steps=st.integers(5, 120),
    entities=st.integers(1, 3),
    quick=st.booleans(),
)
