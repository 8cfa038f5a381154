"""What the load generator sends: payments of the simulated world, as JSON, each with an id that says its place.

The world is the simulator's own (same customers, terminals, rhythm and fraud), so entities are as hot and windows as
full as they are in a run of ``weir up``; event time moves on by whole days, as when the simulator sends history.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.simulator.world import World, WorldSettings
from services.simulator.world_source import render

_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Load:
    """Records in sending order; the i-th has id ``event_id(run, i)``."""

    keys: list[bytes]
    values: list[bytes]
    next_place: tuple[int, int]  # day of the world and number within it, of the first payment that is not in here


def event_id(run: str, number: int) -> str:
    """Id of record ``number`` of the run called ``run``."""
    return f"{run}-{number:0{_DIGITS}d}"


def number_of(identity: bytes, run: bytes) -> int | None:
    """The reverse of ``event_id``; None when the record is of another run."""
    return int(identity[-_DIGITS:]) if identity[: -_DIGITS - 1] == run else None


def payments(run: str, count: int, place: tuple[int, int], seed: int, customers: int = 5_000) -> Load:
    """``count`` payments from ``place`` on: a day of the world, and the number of a payment within it.

    A run goes on where the one before it ended: event time that leaps is refused until several customers confirm it.
    """
    world = World(WorldSettings(seed=seed, customers=customers, terminals=2 * customers))
    names = [f"c{number:06d}" for number in range(world.people.customers)]
    terminals = [f"t{number:06d}" for number in range(world.people.terminals)]
    keys: list[bytes] = []
    values: list[bytes] = []
    day, first = place
    while len(values) < count:
        made, _ = world.day(day)
        rows = np.arange(first, min(len(made), first + count - len(values)))
        taken = made.take(rows)
        whose = [names[number] for number in taken.customer.tolist()]
        ids = [event_id(run, len(values) + number) for number in range(len(taken))]
        keys += [name.encode() for name in whose]
        values += render(taken, ids, whose, terminals)
        day, first = (day, first + len(rows)) if first + len(rows) < len(made) else (day + 1, 0)
    return Load(keys, values, (day, first))
