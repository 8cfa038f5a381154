"""The kernel: ``(state, event) -> (state, vector)``. No clock, no I/O; live path, replay, backfill and parity share it.

A feature at event ``e`` is a function of what the entity's log held when ``e`` came, ``e`` included. Everything
inside is an integer; a feature is rounded once at the end. In two steps, to be exact: Python's int / int rounds
correctly to 53 bits, and the cast to float32 to 24. Both together equal one rounding of p / q (lowest terms, q = 2**k
* q', q' odd) whenever p < 2**53 and q' < 2**29. For they differ only if p / q rounds to a double half-way between two
float32, that is to m * 2**e with an odd m of 25 bits, without being it; the two are then at most half a unit of that
double apart, 2**(e - 29). But they are at least 2**e / q' apart if e < -k, which asks for q' >= 2**29, and else 1 /
q, which asks for p >= 2**53. With 1e-4 major units, q' is at most 625 times the count: a window may hold 9 * 10**11
major units and 858,993 events.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Final

from services.features.formulas import EventFormula, Formula, event_formula, formula
from services.features.occupancy import BYTES_AN_EVENT, NEVER_MS, Occupancy
from services.features.state import EntityState, Keeping
from services.features.windows import AMOUNT_OPS, LABEL_OPS, UNITS_PER_MAJOR, Line
from services.features.words import TAG_MASK, Label
from services.mesh.errors import Poison, RejectCode
from services.mesh.records import FeatureStatus

# By the decimals of a currency: ISO 4217 has 0 to 4.
MINOR_PER_MAJOR: Final[dict[int, int]] = {0: 1, 1: 10, 2: 100, 3: 1_000, 4: 10_000}
UNITS_PER_MINOR: Final = {exponent: UNITS_PER_MAJOR // minor for exponent, minor in MINOR_PER_MAJOR.items()}

_NO_HORIZON: Final = -(2**63)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One entity's view of the stream: what it keeps of each entity and the features it computes from it.

    ``first`` and ``count`` say which stretch of the whole vector is this view's. ``reach_ms`` is how far behind an
    event its longest window looks; ``kept_span_ms`` adds the lateness that the view allows. In the lines, those that
    need the event alone come first. ``memory_bytes`` is the budget of all partitions together, see ``occupancy``.
    """

    name: str
    entity_field: str
    first: int
    lines: tuple[Line, ...]
    lateness_ms: int
    exact_events_max: int
    tile_width_ms: int
    memory_bytes: int
    store_mark: bytes
    count: int = field(init=False)
    reach_ms: int = field(init=False)
    kept_span_ms: int = field(init=False)
    keeping: Keeping = field(init=False)
    _event_features: EventFormula = field(init=False, repr=False)
    _features: Formula = field(init=False, repr=False)
    _features_with_tiles: Formula = field(init=False, repr=False)
    _reaches_ms: tuple[float, ...] = field(init=False, repr=False)
    _row: struct.Struct = field(init=False, repr=False)

    def __post_init__(self) -> None:
        reaches_ms = tuple(reach_ms for line in self.lines for reach_ms in line.reaches_ms)
        reach_ms = int(max((reach_ms for reach_ms in reaches_ms if reach_ms > 0), default=0))
        ops = {line.op for line in self.lines}
        keeping = Keeping(
            view=self.name,
            store_mark=self.store_mark,
            amounts=not ops.isdisjoint(AMOUNT_OPS),
            labels=not ops.isdisjoint(LABEL_OPS),
            kept_span_ms=reach_ms + self.lateness_ms,
            tile_width_ms=self.tile_width_ms,
        )
        for name, value in (
            ("count", len(reaches_ms)),
            ("reach_ms", reach_ms),
            ("kept_span_ms", keeping.kept_span_ms),
            ("keeping", keeping),
            ("_event_features", event_formula(self.lines)),
            ("_features", formula(self.lines, with_tiles=False)),
            ("_features_with_tiles", formula(self.lines, with_tiles=True)),
            ("_reaches_ms", reaches_ms),
            ("_row", struct.Struct(f"<{len(reaches_ms)}f")),
        ):
            object.__setattr__(self, name, value)

    @property
    def names(self) -> tuple[str, ...]:
        """This view's features, in the order of its vector."""
        return tuple(name for line in self.lines for name in line.names)

    def new_state(self) -> EntityState:
        """State of an entity that nothing is known of."""
        return EntityState(self.keeping)

    def new_occupancy(self, partitions: int, text: str = "") -> Occupancy:
        """Of one of ``partitions`` partitions: nothing yet, or what ``to_text`` wrote; ValueError when it did not."""
        return Occupancy.from_text(self.kept_span_ms, self.memory_bytes // BYTES_AN_EVENT // partitions, text)

    def apply_event(
        self,
        state: EntityState,
        event_time_ms: int,
        amount_minor: int,
        exponent: int,
        identity_tag: int,
        occupancy: Occupancy | None = None,
    ) -> tuple[bytes, FeatureStatus]:
        """Apply one event to its entity's state; this view's features as float32 little-endian, and how far they hold.

        ``exponent``: decimals of the currency (ISO 4217), 0 to 4. ``identity_tag``: any hash of the event's identity,
        of which 59 bits are kept. ``occupancy``: that of the entity's partition, in which the event is counted; without
        it there is no budget.

        ``stale``: the event is so far behind its entity's newest that a window reaches below what is kept; those
        features are NaN, the others exact, and the event still counts for those to come if its time is kept.
        ``saturated``: a window reaches into tiles, so an answer may be off at an edge by what one tile holds.

        Raises Poison, having changed nothing else, when the amount does not fit 64 bits in 1e-4 major units.
        """
        horizon_ms = self._place(state, event_time_ms, amount_minor, exponent, identity_tag, occupancy)
        features = self._features if state.tiles is None else self._features_with_tiles
        values = features(state, event_time_ms, amount_minor, MINOR_PER_MAJOR[exponent])
        status: FeatureStatus = "ok"
        if event_time_ms - self.reach_ms < horizon_ms:
            status = "stale"
            values = self._placeable(values, event_time_ms, horizon_ms)
        elif state.tiles is not None and state.tiles.newest_ms[-1] > event_time_ms - self.reach_ms:
            status = "saturated"
        self._compact_when_due(state, occupancy)
        return self._row.pack(*values), status

    def absorb_event(
        self,
        state: EntityState,
        event_time_ms: int,
        amount_minor: int,
        exponent: int,
        identity_tag: int,
        occupancy: Occupancy | None = None,
    ) -> None:
        """Apply one event as ``apply_event`` does, for a replay, which asks for no features."""
        self._place(state, event_time_ms, amount_minor, exponent, identity_tag, occupancy)
        self._compact_when_due(state, occupancy)

    def apply_label(
        self, state: EntityState, event_time_ms: int, identity_tag: int, label: Label, is_revision: bool = False
    ) -> bool:
        """Label an event that was applied before, in place of any former label; False when no such event is kept.

        ``is_revision``: the event had the other label before. Only tiles need to be told, as they have forgotten
        which of their events have labels; see ``Tiles.relabel``.
        """
        assert self.keeping.labels, f"view {self.name} keeps no labels"
        is_kept = state.relabel(event_time_ms, identity_tag & TAG_MASK, label, is_revision)
        if state.log_entries >= state.compact_at:
            state.compact(self.exact_events_max)
        return is_kept

    def fallback_vector(self, event_time_ms: int, amount_minor: int, exponent: int) -> bytes:
        """The vector when the state can't be had: what needs the event alone, and NaN for the rest."""
        values = self._event_features(event_time_ms, amount_minor, MINOR_PER_MAJOR[exponent])
        return self._row.pack(*values, *(math.nan,) * (self.count - len(values)))

    def read(self, state: EntityState, at_ms: int) -> dict[str, float]:
        """The windowed features as of a moment, as they would be served without an event of that moment.

        NaN where a window reaches below what is kept.
        """
        horizon_ms = state.times_ms[-1] - self.kept_span_ms if state.times_ms else _NO_HORIZON
        features = self._features if state.tiles is None else self._features_with_tiles
        values = self._placeable(features(state, at_ms, 0, 1), at_ms, horizon_ms)
        served = zip(self.names, self._row.unpack(self._row.pack(*values)), self._reaches_ms, strict=True)
        return {name: value for name, value, reach_ms in served if reach_ms > 0}

    def _place(
        self,
        state: EntityState,
        event_time_ms: int,
        amount_minor: int,
        exponent: int,
        identity_tag: int,
        occupancy: Occupancy | None,
    ) -> int:
        """Count the event and keep it, if its time is kept; the horizon that it met. Raises Poison."""
        if occupancy is not None:
            occupancy.add(event_time_ms)
        times_ms = state.times_ms
        horizon_ms = times_ms[-1] - self.kept_span_ms if times_ms else _NO_HORIZON
        if event_time_ms > horizon_ms:
            amount = amount_minor * UNITS_PER_MINOR[exponent]
            try:
                state.insert(event_time_ms, amount, identity_tag & TAG_MASK)
            except struct.error:
                raise _too_large(event_time_ms, amount_minor, exponent) from None
        return horizon_ms

    def _compact_when_due(self, state: EntityState, occupancy: Occupancy | None) -> None:
        times_ms = state.times_ms
        exact_after_ms = NEVER_MS if occupancy is None else occupancy.exact_after_ms
        is_too_much = len(times_ms) > self.exact_events_max or times_ms[0] <= exact_after_ms
        if is_too_much or state.log_entries >= state.compact_at:
            state.compact(self.exact_events_max, occupancy)

    def _placeable(self, values: tuple[float, ...], time_ms: int, horizon_ms: int) -> tuple[float, ...]:
        """``values`` with NaN for those whose window reaches below ``horizon_ms``."""
        return tuple(
            value if time_ms - reach_ms >= horizon_ms else math.nan
            for value, reach_ms in zip(values, self._reaches_ms, strict=True)
        )


def _too_large(event_time_ms: int, amount_minor: int, exponent: int) -> Poison:
    return Poison(
        RejectCode.OUT_OF_RANGE,
        f"amount_minor={amount_minor} (exponent {exponent}) at event_time_ms={event_time_ms}: both must fit 64 bits, "
        "the amount counted in 1e-4 major units; bound them in ingestion",
        "amount_minor",
    )
