"""What differs between the two views: which record comes in, what it does to state, which record goes out.

A view's output begins with the bytes of its input (see ``mesh.codec``), so nothing that came in is encoded twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from services.features.definitions import FeatureSet
from services.features.kernel import View
from services.features.occupancy import Occupancy
from services.features.state import EntityState
from services.mesh.codec import HEADER_BYTES, Extension, own_fields_schema, read, schema
from services.mesh.currency import EXPONENTS
from services.mesh.errors import Poison, RejectCode
from services.mesh.excerpt import Excerpt
from services.mesh.identity import identity_of_bytes, tag_of
from services.mesh.ports import InRecord
from services.mesh.records import FeatureStatus
from services.mesh.stage import Emit
from services.mesh.topics import FEATURES, UPDATES_TERMINAL

_WORSE: dict[FeatureStatus, int] = {"ok": 0, "saturated": 1, "stale": 2, "fallback": 3}
# updates.terminal.v1 carries a union; its branch number is the first byte of the payload (zigzag of 0 and 1).
_EVENT_BRANCH = b"\x00"
_LABEL_BRANCH = b"\x02"
_PAYLOAD = HEADER_BYTES + 1
# What a view needs of an event besides its ids.
_STEP = ("event_time_ms", "amount_minor", "currency")
_IDS = ("event_id", "customer_id")


class ViewAdapter(Protocol):
    """One view between its topics."""

    view: View

    def apply(
        self, state: EntityState | None, record: InRecord, source: int, occupancy: Occupancy | None = None
    ) -> tuple[Emit | None, FeatureStatus]:
        """Apply ``record``; what it leads to. ``state`` None: out of reach, so the vector is a fallback.

        ``occupancy`` is that of the record's partition; without it memory has no bound.
        Raises Poison when the record is none of this view's.
        """
        ...

    def absorb(self, state: EntityState, record: InRecord, occupancy: Occupancy | None = None) -> None:
        """Apply ``record`` to state and emit nothing; Poison as in ``apply``."""
        ...


def adapter_of(view_name: str, features: FeatureSet) -> ViewAdapter:
    """The adapter of the view called ``view_name``."""
    return CustomerView(features) if view_name == "customer" else TerminalView(features)


class CustomerView:
    """events.v1 in, updates.terminal.v1 out."""

    def __init__(self, features: FeatureSet) -> None:
        self.view = features.view("customer")
        event, update = schema("payments/event.v1.avsc"), schema("terminal_update.v1.avsc")
        fields = update.fields[0]["type"][0]["fields"]
        self._prefix = update.header + _EVENT_BRANCH
        self._event = Excerpt(event, (*_IDS, "terminal_id", *_STEP), as_bytes=(*_IDS, "terminal_id"))
        self._own = Extension(event, event.fields, update, fields)

    def apply(
        self, state: EntityState | None, record: InRecord, source: int, occupancy: Occupancy | None = None
    ) -> tuple[Emit | None, FeatureStatus]:
        """See ``ViewAdapter``."""
        event_id, customer_id, terminal_id, *step = self._event.of(record.value)
        vector, status = _vector(self.view, state, occupancy, customer_id, event_id, *step)
        own = {"event_append_time_ms": record.append_time_ms, "customer_status": status, "customer_vector": vector}
        assert record.value is not None
        value = self._own.extend_after(self._prefix, record.value[HEADER_BYTES:], own)
        return Emit(UPDATES_TERMINAL.name, terminal_id, value, None, source), status

    def absorb(self, state: EntityState, record: InRecord, occupancy: Occupancy | None = None) -> None:
        """See ``ViewAdapter``."""
        event_id, customer_id, _, *step = self._event.of(record.value)
        self.view.absorb_event(state, *_step(self.view, customer_id, event_id, *step), occupancy)


class TerminalView:
    """updates.terminal.v1 in, features.v1 out; labels change state and lead to nothing."""

    def __init__(self, features: FeatureSet) -> None:
        self.view = features.view("terminal")
        self._feature_set = features.content_hash
        self._customer_bytes = 4 * features.view("customer").count
        self._update = update = schema("terminal_update.v1.avsc")
        event, label = (branch["fields"] for branch in update.fields[0]["type"])
        self._parsed = {
            _EVENT_BRANCH: own_fields_schema(update, event, "Event"),
            _LABEL_BRANCH: own_fields_schema(update, label, "Label"),
        }
        self._event = Excerpt(
            update,
            (*_IDS, *_STEP, "source_partition", "customer_status", "customer_vector"),
            start=update.header + _EVENT_BRANCH,
            fields=event,
            whole=self._whole,
            sizes={"customer_vector": self._customer_bytes},
            as_bytes=_IDS,
            head_before="customer_status",
        )
        self._label = Excerpt(
            update,
            (*_IDS, "event_time_ms", "label", "label_version"),
            start=update.header + _LABEL_BRANCH,
            fields=label,
            whole=self._whole,
            as_bytes=_IDS,
        )
        target = schema("features.v1.avsc")
        self._own = Extension(update, event, target, target.fields)

    def apply(
        self, state: EntityState | None, record: InRecord, source: int, occupancy: Occupancy | None = None
    ) -> tuple[Emit | None, FeatureStatus]:
        """See ``ViewAdapter``."""
        if _branch(record) == _LABEL_BRANCH:
            self._absorb_label(state, record)
            return None, "ok"
        shared, event_id, customer_id, *step, partition, customer_status, customer_vector = self._event.of(record.value)
        vector, status = _vector(self.view, state, occupancy, customer_id, event_id, *step)
        worse: FeatureStatus = max(status, customer_status, key=_WORSE.__getitem__)
        own = {
            "update_append_time_ms": record.append_time_ms,
            "feature_set": self._feature_set,
            "feature_status": worse,
            "vector": customer_vector + vector,
        }
        # The customer's partition is known: it owns the customer on every hop.
        return Emit(FEATURES.name, customer_id, self._own.extend(shared, own), partition, source), worse

    def absorb(self, state: EntityState, record: InRecord, occupancy: Occupancy | None = None) -> None:
        """See ``ViewAdapter``."""
        if _branch(record) == _LABEL_BRANCH:
            self._absorb_label(state, record)
            return
        _, event_id, customer_id, *step, _, _, _ = self._event.of(record.value)
        self.view.absorb_event(state, *_step(self.view, customer_id, event_id, *step), occupancy)

    def _absorb_label(self, state: EntityState | None, record: InRecord) -> None:
        event_id, customer_id, event_time_ms, label, version = self._label.of(record.value)
        if state is not None:
            tag = tag_of(identity_of_bytes(customer_id, event_id))
            self.view.apply_label(state, event_time_ms, tag, label, version > 1)

    def _whole(self, value: bytes | None) -> Mapping[str, Any]:
        """Either branch, decoded in full. What is refused live is refused in a replay, as both come here."""
        value = value or b""
        branch = value[HEADER_BYTES:_PAYLOAD]
        if value[:HEADER_BYTES] != self._update.header or branch not in self._parsed:
            raise Poison(RejectCode.UNDECODABLE, f"not a {self._update.file} record: {value[:16].hex()}")
        update, end = read(value, _PAYLOAD, self._parsed[branch], self._update.file)
        if end != len(value):
            raise Poison(
                RejectCode.UNDECODABLE, f"{self._update.file}: {len(value) - end} bytes behind the record in its branch"
            )
        if branch == _EVENT_BRANCH and len(update["customer_vector"]) != self._customer_bytes:
            raise Poison(
                RejectCode.UNDECODABLE,
                f"customer_vector of {len(update['customer_vector'])} bytes where {self._customer_bytes} belong; do "
                "both features stages run the same feature set?",
                "customer_vector",
            )
        return update


def _branch(record: InRecord) -> bytes:
    return (record.value or b"")[HEADER_BYTES:_PAYLOAD]


def _vector(
    view: View,
    state: EntityState | None,
    occupancy: Occupancy | None,
    customer_id: bytes,
    event_id: bytes,
    event_time_ms: int,
    amount_minor: int,
    currency: str,
) -> tuple[bytes, FeatureStatus]:
    step = _step(view, customer_id, event_id, event_time_ms, amount_minor, currency)
    if state is not None:
        return view.apply_event(state, *step, occupancy)
    if occupancy is not None:
        occupancy.add(event_time_ms)  # it is in the log, whether or not its entity can be had now
    return view.fallback_vector(*step[:3]), "fallback"


def _step(
    view: View, customer_id: bytes, event_id: bytes, event_time_ms: int, amount_minor: int, currency: str
) -> tuple[int, int, int, int]:
    """What the kernel is told of an event: time, amount, the currency's decimals, tag. Poison, live or in a replay."""
    exponent = EXPONENTS.get(currency)
    if exponent is None:
        raise Poison(
            RejectCode.UNDECODABLE,
            f"currency={currency!r}: not known to this version; deploy ingestion and features of one version",
            "currency",
        )
    # A view that keeps no labels never looks for one event again.
    tag = tag_of(identity_of_bytes(customer_id, event_id)) if view.keeping.labels else 0
    return event_time_ms, amount_minor, exponent, tag
