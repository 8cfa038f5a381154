"""Recomputing what was served, from the log alone: the same kernel, fresh state, bit for bit.

Each view is a function of its own input, partition by partition in offset order. So three streams are walked once, in
any interleaving: ``events.v1`` gives the customer's features, to be compared with those in ``updates.terminal.v1``;
that gives the terminal's, to be compared with ``features.v1``. A recomputed vector waits for its served one, which the
headers name; whose twin never comes was on its way, or went to dead letters. A record of ``features.v1`` says which
feature set served it, one of ``updates.terminal.v1`` does not: a customer's vector that differs is a mismatch unless
the record that followed from it is of another set. Pure.

With ``sample`` = n only one customer and one terminal in n are followed, over their whole histories.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args
from zlib import crc32

from services.features.definitions import FeatureSet
from services.features.kernel import View
from services.features.occupancy import Occupancy
from services.features.state import EntityState
from services.mesh.codec import HEADER_BYTES, Codec, own_fields_schema, read, schema
from services.mesh.currency import EXPONENTS
from services.mesh.errors import Poison
from services.mesh.headers import Hop
from services.mesh.identity import identity_of, tag_of
from services.mesh.prefix import event_time_ms_of, ids_of
from services.mesh.records import FeatureStatus
from services.mesh.watermark import Marks

_BADNESS: Mapping[FeatureStatus, int] = {"ok": 0, "saturated": 1, "stale": 2, "fallback": 3}
_LABEL_BRANCH = 2
_UPDATE = "terminal_update.v1.avsc"
_FEATURES = "features.v1.avsc"
_STATUSES = get_args(FeatureStatus)  # in the order of the schema's symbols

Place = tuple[int, int]
"""Partition and offset."""


class Recomputed(NamedTuple):
    """What the log says should have been served."""

    vector: bytes  # of this view; of both views for the terminal
    status: FeatureStatus
    is_whole: bool  # the log still keeps all that its windows reach


class Served(NamedTuple):
    """What was served."""

    vector: bytes
    status: FeatureStatus
    place: Place  # of the record that carries it
    record: bytes
    ids_at: int  # where its ids begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """One vector that was served otherwise than the log says."""

    view: str
    event_id: str
    customer_id: str
    partition: int  # of the record that carries the served vector
    offset: int
    feature: str  # the first that differs; feature_status when only that does
    served: float | str
    recomputed: float | str


@dataclass(slots=True)
class ViewReport:
    """What came of one view's vectors."""

    compared: int = 0
    mismatches: int = 0
    by_status: Counter[str] = field(default_factory=Counter)  # of those compared
    excluded: Counter[str] = field(default_factory=Counter)  # by why
    first: Divergence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParitySettings:
    """What to compare. ``partitions``: how many the mesh has; they share the memory that the views declare."""

    partitions: int
    sample: int = 1
    compare_from: int = 0  # offset in each view's input; what lies before it is applied and not compared
    cut_partitions: Mapping[str, frozenset[int]] = field(default_factory=dict)  # view -> inputs that lost their start


class Parity:
    """Feed it the three topics, each partition in offset order; then read ``reports`` and ``left``."""

    def __init__(self, features: FeatureSet, settings: ParitySettings) -> None:
        self._reports = {"customer": ViewReport(), "terminal": ViewReport()}
        # Customers' vectors that differ, until it is known which set served them; and updates that another set served.
        self._doubts: dict[Place, tuple[Served, Recomputed]] = {}
        self._of_other_sets: set[Place] = set()
        self._names = features.names
        self._customers = _Replay(features.view("customer"), settings)
        self._terminals = _Replay(features.view("terminal"), settings)
        self._event = Codec("payments/event.v1.avsc")
        self._features = Codec(_FEATURES)
        # A record of features.v1 ends with feature_set, feature_status and vector; the rest need not be decoded.
        self._vector_bytes = 4 * len(features.names)
        self._vector_length = _varint(2 * self._vector_bytes)
        content_hash = features.content_hash.encode()
        self._tail_begins = _varint(2 * len(content_hash)) + content_hash
        self._tail_bytes = len(self._tail_begins) + 1 + len(self._vector_length) + self._vector_bytes
        assert [field["name"] for field in schema(_FEATURES).fields[-3:]] == ["feature_set", "feature_status", "vector"]
        update = schema(_UPDATE)
        branches = update.fields[0]["type"]
        self._update = own_fields_schema(update, branches[0]["fields"], "Event")
        self._label = own_fields_schema(update, branches[1]["fields"], "Label")

    @property
    def reports(self) -> dict[str, ViewReport]:
        """What came of each view's vectors, so far: a doubt that nothing has settled counts as a mismatch."""
        for served, recomputed in self._doubts.values():
            self._count("customer", served, recomputed)
        self._doubts.clear()
        return self._reports

    def left(self) -> dict[str, tuple[int, int]]:
        """For each view: recomputed vectors whose served twin has not come (on its way, or refused), and served ones
        whose input has not: with all of the input fed, there must be none of these.
        """
        replays = {"customer": self._customers, "terminal": self._terminals}
        return {view: (len(replay.recomputed), len(replay.served)) for view, replay in replays.items()}

    def event(self, place: Place, key: bytes, value: bytes, hop: Hop) -> None:
        """One record of ``events.v1``; ``hop`` is its ``weir`` header."""
        replay = self._customers
        if not replay.admits(place[0], hop):
            return
        if not replay.follows(key):
            replay.pass_by(place[0], value, HEADER_BYTES)
            return
        with suppress(Poison):  # refused then as now: it is in dead letters
            self._recomputed("customer", replay, place, replay.apply(key, place[0], self._event.decode(value)))

    def update(self, place: Place, key: bytes, value: bytes, hop: Hop) -> None:
        """One record of ``updates.terminal.v1``: the customer's served vector, and the terminal's next input."""
        replay = self._terminals
        is_admitted = replay.admits(place[0], hop)
        is_followed = is_admitted and replay.follows(key)
        if value[HEADER_BYTES] == _LABEL_BRANCH:
            if is_followed:
                replay.label(key, read(value, HEADER_BYTES + 1, self._label, _UPDATE)[0])
            return
        customer_id = ids_of(value, HEADER_BYTES + 1)[1]
        if is_admitted and not is_followed:
            replay.pass_by(place[0], value, HEADER_BYTES + 1)
        if not is_followed and not self._customers.follows(customer_id):
            return
        event, _ = read(value, HEADER_BYTES + 1, self._update, _UPDATE)
        vector, status = event["customer_vector"], event["customer_status"]
        if self._customers.follows(customer_id):
            served = Served(vector, status, place, value, HEADER_BYTES + 1)
            self._served("customer", self._customers, (hop.previous_partition_number, hop.previous_offset), served)
        if is_followed:
            with suppress(Poison):
                own = replay.apply(key, place[0], event)
                worse = max(own.status, status, key=_BADNESS.__getitem__)
                self._recomputed("terminal", replay, place, Recomputed(vector + own.vector, worse, own.is_whole))

    def features(self, place: Place, value: bytes, hop: Hop) -> None:
        """One record of ``features.v1``: the whole vector as it was served."""
        source = hop.previous_partition_number, hop.previous_offset
        set_at, vector_at = len(value) - self._tail_bytes, len(value) - self._vector_bytes
        status_at = set_at + len(self._tail_begins)
        is_ours = value[set_at:status_at] == self._tail_begins
        is_ours = is_ours and value[status_at + 1 : vector_at] == self._vector_length
        self._settle_doubt(source, is_ours)
        if not self._terminals.follows_all and not self._terminals.follows(self._terminal_of(value)):
            return
        if not is_ours:
            self._reports["terminal"].excluded["other feature set"] += 1
            self._terminals.recomputed.pop(source, None)
            return
        served = Served(value[vector_at:], _STATUSES[value[status_at] >> 1], place, value, HEADER_BYTES)
        self._served("terminal", self._terminals, source, served)

    def _settle_doubt(self, update: Place, is_ours: bool) -> None:
        doubt = self._doubts.pop(update, None)
        if not is_ours:
            if doubt is not None:
                self._reports["customer"].excluded["other feature set"] += 1
            else:
                self._of_other_sets.add(update)
        elif doubt is not None:
            self._count("customer", *doubt)

    def _terminal_of(self, value: bytes) -> bytes:
        terminal_id: str = self._features.decode(value)["terminal_id"]
        return terminal_id.encode()

    def _recomputed(self, view: str, replay: _Replay, source: Place, recomputed: Recomputed) -> None:
        if source[1] < replay.compare_from:
            return
        served = replay.served.pop(source, None)
        if served is None:
            replay.recomputed[source] = recomputed
        else:
            self._compare(view, served, recomputed)

    def _served(self, view: str, replay: _Replay, source: Place, served: Served) -> None:
        if source[1] < replay.compare_from:
            return
        recomputed = replay.recomputed.pop(source, None)
        if recomputed is None:
            replay.served[source] = served
        else:
            self._compare(view, served, recomputed)

    def _compare(self, view: str, served: Served, recomputed: Recomputed) -> None:
        report = self._reports[view]
        if served.status in ("stale", "fallback"):
            report.excluded[served.status] += 1
            return
        if not recomputed.is_whole:
            report.excluded["history no longer kept"] += 1
            return
        is_equal = served.vector == recomputed.vector and served.status == recomputed.status
        if is_equal or view == "terminal":
            self._count(view, served, recomputed)
        elif served.place in self._of_other_sets:
            report.excluded["other feature set"] += 1
        else:
            self._doubts[served.place] = served, recomputed

    def _count(self, view: str, served: Served, recomputed: Recomputed) -> None:
        report = self._reports[view]
        report.compared += 1
        report.by_status[served.status] += 1
        if served.vector == recomputed.vector and served.status == recomputed.status:
            return
        report.mismatches += 1
        if report.first is None:
            event_id, customer_id = ids_of(served.record, served.ids_at)
            feature, was, should_be = self._difference(served, recomputed)
            report.first = Divergence(
                view=view,
                event_id=event_id.decode(),
                customer_id=customer_id.decode(),
                partition=served.place[0],
                offset=served.place[1],
                feature=feature,
                served=was,
                recomputed=should_be,
            )

    def _difference(self, served: Served, recomputed: Recomputed) -> tuple[str, float | str, float | str]:
        """Name of the first feature that differs, and both its values."""
        was, should_be = served.vector, recomputed.vector
        if len(was) != len(should_be):
            return "length", f"{len(was)} bytes", f"{len(should_be)} bytes"
        for column, at in enumerate(range(0, len(was), 4)):
            if was[at : at + 4] != should_be[at : at + 4]:
                (served_value,), (own_value,) = (
                    struct.unpack_from("<f", was, at),
                    struct.unpack_from("<f", should_be, at),
                )
                return self._names[column], served_value, own_value
        return "feature_status", served.status, recomputed.status


class _Replay:
    """One view's state from nothing, and the rule by which its stage took records."""

    def __init__(self, view: View, settings: ParitySettings) -> None:
        self._view = view
        self._sample = settings.sample
        self._cut = settings.cut_partitions.get(view.name, frozenset())
        self._states: dict[bytes, EntityState] = {}
        self._marks: dict[int, Marks] = {}
        self._begun_ms: dict[int, int] = {}
        self._partitions = settings.partitions
        self._occupancies: dict[int, Occupancy] = {}
        self.compare_from = settings.compare_from
        # What waits for its twin, by the place of the input that led to both.
        self.recomputed: dict[Place, Recomputed] = {}
        self.served: dict[Place, Served] = {}

    @property
    def follows_all(self) -> bool:
        """Whether there is no sampling."""
        return self._sample == 1

    def follows(self, key: bytes) -> bool:
        """Whether this entity is in the sample."""
        return self._sample == 1 or not crc32(key) % self._sample

    def admits(self, partition: int, hop: Hop) -> bool:
        """The watermark's rule, as in the live path."""
        marks = self._marks.get(partition)
        if marks is None:
            marks = self._marks[partition] = Marks()
        return marks.admit(hop)

    def apply(self, key: bytes, partition: int, event: dict[str, Any]) -> Recomputed:
        """Apply one event; raises Poison as the stage does."""
        tag = tag_of(identity_of(event["customer_id"], event["event_id"]))
        time_ms, exponent = event["event_time_ms"], EXPONENTS[event["currency"]]
        state, occupancy = self._state(key), self._occupancy(partition)
        vector, status = self._view.apply_event(state, time_ms, event["amount_minor"], exponent, tag, occupancy)
        return Recomputed(vector, status, partition not in self._cut or self._is_whole(partition, time_ms, status))

    def pass_by(self, partition: int, value: bytes, start: int) -> None:
        """An event of an entity that is not followed fills the partition's windows all the same.

        (One that its stage refused, which takes two versions deployed side by side, is told by a walk of all only.)
        """
        with suppress(ValueError):
            self._occupancy(partition).add(event_time_ms_of(value, start))

    def label(self, key: bytes, label: dict[str, Any]) -> None:
        """Apply one label."""
        tag = tag_of(identity_of(label["customer_id"], label["event_id"]))
        is_revision = label["label_version"] > 1
        self._view.apply_label(self._state(key), label["event_time_ms"], tag, label["label"], is_revision)

    def _state(self, key: bytes) -> EntityState:
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = self._view.new_state()
        state.pending.clear()  # nothing is stored here
        return state

    def _occupancy(self, partition: int) -> Occupancy:
        occupancy = self._occupancies.get(partition)
        if occupancy is None:
            occupancy = self._occupancies[partition] = self._view.new_occupancy(self._partitions)
        return occupancy

    def _is_whole(self, partition: int, time_ms: int, status: FeatureStatus) -> bool:
        """Whether windows that end at ``time_ms`` lie wholly behind the first event that the log still keeps.

        What is in tiles also depends on what was kept beside it when it was folded: that looks back as far again.
        """
        begun_ms = self._begun_ms.setdefault(partition, time_ms)
        spans = 1 if status == "ok" else 2
        return time_ms - begun_ms >= spans * self._view.kept_span_ms


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(0x80 | (number & 0x7F))
        number >>= 7
    return bytes((*out, number))
