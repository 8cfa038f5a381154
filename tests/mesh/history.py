"""Histories drawn from a seed: what is sent, who turns when, what breaks where."""

from __future__ import annotations

from random import Random
from typing import Any

from whole_mesh import NOW_MS, VIEWS, Mesh

from services.mesh.adapters.memory import Crash
from services.mesh.errors import Transient
from services.mesh.topology import DECIDING

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
POINTS = ("before_commit", "after_commit", "before_save", "after_save")


class World:
    """Customers who pay, late, twice, at the same moment, at one another's terminals."""

    def __init__(self, random: Random, customers: int, terminals: int) -> None:
        self._random = random
        self._customers = [f"c{n}" for n in range(customers)]
        self._terminals = [f"t{n}" for n in range(terminals)]
        self._clock_ms = NOW_MS - 400 * DAY_MS
        self._made = 0
        self.sent: list[dict[str, Any]] = []
        self._labelled: dict[str, int] = {}

    def event(self) -> dict[str, Any]:
        random = self._random
        self._clock_ms += random.choice((0, 0, 1, 1_000, 5 * MINUTE_MS, HOUR_MS, 20 * HOUR_MS))
        if self.sent and random.random() < 0.05:
            repeated = dict(random.choice(self.sent[-20:]))
            if random.random() < 0.3:
                repeated["amount_minor"] += 1
            return repeated
        late_ms = random.choice((1, MINUTE_MS, HOUR_MS, 5 * HOUR_MS)) if random.random() < 0.2 else 0
        self._made += 1
        event = {
            "event_id": f"e{self._made}",
            "customer_id": random.choice(self._customers),
            "terminal_id": random.choice(self._terminals),
            "event_time_ms": self._clock_ms - late_ms,
            "amount_minor": random.choice((0, 1, 999, random.randrange(10**6))),
            "currency": random.choice(("EUR", "EUR", "JPY", "KWD")),
        }
        self.sent.append(event)
        return event

    def label(self) -> dict[str, Any] | None:
        if not self.sent:
            return None
        event = self._random.choice(self.sent[-40:])
        version = self._labelled[event["event_id"]] = self._labelled.get(event["event_id"], 0) + 1
        label = "fraud" if version % 2 else "genuine"
        named = {name: event[name] for name in ("event_id", "customer_id", "terminal_id", "event_time_ms")}
        return {**named, "label": label, "label_version": version, "observed_time_ms": self._clock_ms}


def play(mesh: Mesh, random: Random, steps: int, torn: bool = False, loss: float = 0.01) -> None:
    """``steps`` things happen to ``mesh``; at the end it is left as it is, not settled. ``loss``: how often a store
    loses all it has."""
    names = [stage.name for stage in mesh.stages]
    # The last stage has no next one that could tell the repeat; there only Kafka's fencing helps.
    torn_names = [name for name in names if name != DECIDING.name]
    world = World(random, customers=random.randint(1, 12), terminals=random.randint(1, 6))
    for _ in range(steps):
        chance = random.random()
        if chance < 0.30:
            for _ in range(random.randint(1, 8)):
                mesh.send(world.event())
        elif chance < 0.34:
            label = world.label()
            if label is not None:
                mesh.label(label)
        elif chance < 0.80:
            for name in names:
                random.choice(mesh.processes[name]).turn(random.choice((1, 3, 500)))
        elif chance < 0.90:
            process = random.choice(mesh.processes[random.choice(names)])
            error = Crash() if random.random() < 0.6 else Transient("unclear")
            process.faults.armed[random.choice(POINTS)] = error
        elif chance < 0.92:
            mesh.scale(random.choice(names), random.randint(1, 3))
        elif chance < 0.93:
            random.choice(mesh.processes[random.choice(names)]).expire()
        elif chance < 0.96:
            redis = mesh.redis[random.choice(("ingestion", *VIEWS.values()))]
            redis.reachable = not redis.reachable
        elif torn and chance < 0.98:
            process = random.choice(mesh.processes[random.choice(torn_names)])
            process.faults.armed["torn"] = Transient("torn")
        else:
            mesh.clock.advance_ms(random.choice((1, 100, 1_500, 6_000)))
        if random.random() < loss:
            mesh.redis[random.choice(("ingestion", *VIEWS.values()))].lose_all()
