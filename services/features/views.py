"""What differs between the two views: which record comes in, what it does to state, which record goes out.

A view's output begins with the bytes of its input (see ``mesh.codec``), so nothing that came in is encoded twice.
"""

from __future__ import annotations

from typing import Any, Protocol

from services.features.definitions import FeatureSet
from services.features.kernel import View
from services.features.state import EntityState
from services.mesh.codec import HEADER_BYTES, Codec, Extension, own_fields_schema, read, schema
from services.mesh.currency import EXPONENTS
from services.mesh.errors import Poison, RejectCode
from services.mesh.identity import identity_of, tag_of
from services.mesh.ports import InRecord
from services.mesh.records import Event, FeatureStatus
from services.mesh.stage import Emit
from services.mesh.topics import FEATURES, UPDATES_TERMINAL

_WORSE: dict[FeatureStatus, int] = {"ok": 0, "saturated": 1, "stale": 2, "fallback": 3}
# updates.terminal.v1 carries a union; its branch number is the first byte of the payload (zigzag of 0 and 1).
_EVENT_BRANCH = b"\x00"
_LABEL_BRANCH = b"\x02"
_PAYLOAD = HEADER_BYTES + 1


class ViewAdapter(Protocol):
    """One view between its topics."""

    view: View

    def apply(self, state: EntityState | None, record: InRecord, source: int) -> tuple[Emit | None, FeatureStatus]:
        """Apply ``record``; what it leads to. ``state`` None: out of reach, so the vector is a fallback.

        Raises Poison when the record is none of this view's.
        """
        ...

    def absorb(self, state: EntityState, record: InRecord) -> None:
        """Apply ``record`` to state and emit nothing; Poison as in ``apply``."""
        ...


def adapter_of(view_name: str, features: FeatureSet) -> ViewAdapter:
    """The adapter of the view called ``view_name``."""
    return CustomerView(features) if view_name == "customer" else TerminalView(features)


class CustomerView:
    """events.v1 in, updates.terminal.v1 out."""

    def __init__(self, features: FeatureSet) -> None:
        self.view = features.view("customer")
        self._event = Codec("payments/event.v1.avsc")
        update = schema("terminal_update.v1.avsc")
        fields = update.fields[0]["type"][0]["fields"]
        self._prefix = update.header + _EVENT_BRANCH
        self._own = Extension(self._event.schema, self._event.schema.fields, update, fields)

    def apply(self, state: EntityState | None, record: InRecord, source: int) -> tuple[Emit | None, FeatureStatus]:
        """See ``ViewAdapter``."""
        event: Event = self._event.decode(record.value)  # type: ignore[assignment]
        vector, status = _vector(self.view, state, event)
        own = {"event_append_time_ms": record.append_time_ms, "customer_status": status, "customer_vector": vector}
        assert record.value is not None
        value = self._own.extend_after(self._prefix, record.value[HEADER_BYTES:], own)
        return Emit(UPDATES_TERMINAL.name, event["terminal_id"].encode(), value, None, source), status

    def absorb(self, state: EntityState, record: InRecord) -> None:
        """See ``ViewAdapter``."""
        event: Event = self._event.decode(record.value)  # type: ignore[assignment]
        _vector(self.view, state, event)


class TerminalView:
    """updates.terminal.v1 in, features.v1 out; labels change state and lead to nothing."""

    def __init__(self, features: FeatureSet) -> None:
        self.view = features.view("terminal")
        self._feature_set = features.content_hash
        self._customer_bytes = 4 * features.view("customer").count
        self._update = schema("terminal_update.v1.avsc")
        branches = self._update.fields[0]["type"]
        self._event_fields = branches[0]["fields"]
        self._event = own_fields_schema(self._update, self._event_fields, "Event")
        self._label = own_fields_schema(self._update, branches[1]["fields"], "Label")
        target = schema("features.v1.avsc")
        self._own = Extension(self._update, self._event_fields, target, target.fields)
        self._last_shared = len(self._own.shared_names)

    def apply(self, state: EntityState | None, record: InRecord, source: int) -> tuple[Emit | None, FeatureStatus]:
        """See ``ViewAdapter``."""
        value, branch = self._opened(record)
        if branch == _LABEL_BRANCH:
            self._absorb_label(state, value)
            return None, "ok"
        event, end = self._event_in(value)
        vector, status = _vector(self.view, state, event)
        worse = max(status, event["customer_status"], key=_WORSE.__getitem__)
        own = {
            "update_append_time_ms": record.append_time_ms,
            "feature_set": self._feature_set,
            "feature_status": worse,
            "vector": event["customer_vector"] + vector,
        }
        shared = value[_PAYLOAD : end - _own_length(event["customer_vector"])]
        # The customer's partition is known: it owns the customer on every hop.
        key, partition = event["customer_id"].encode(), event["source_partition"]
        return Emit(FEATURES.name, key, self._own.extend(shared, own), partition, source), worse

    def absorb(self, state: EntityState, record: InRecord) -> None:
        """See ``ViewAdapter``."""
        value, branch = self._opened(record)
        if branch == _LABEL_BRANCH:
            self._absorb_label(state, value)
            return
        event, _ = self._event_in(value)
        _vector(self.view, state, event)

    def _event_in(self, value: bytes) -> tuple[dict[str, Any], int]:
        """The event and where it ends. What is refused live must be refused in a replay, so both come here."""
        event, end = read(value, _PAYLOAD, self._event, self._update.file)
        if end != len(value) or len(event["customer_vector"]) != self._customer_bytes:
            raise Poison(
                RejectCode.UNDECODABLE,
                f"customer_vector of {len(event['customer_vector'])} bytes where {self._customer_bytes} belong, "
                f"{len(value) - end} bytes behind the record; do both features stages run the same feature set?",
                "customer_vector",
            )
        return event, end

    def _opened(self, record: InRecord) -> tuple[bytes, bytes]:
        value = record.value or b""
        branch = value[HEADER_BYTES:_PAYLOAD]
        if value[:HEADER_BYTES] != self._update.header or branch not in (_EVENT_BRANCH, _LABEL_BRANCH):
            raise Poison(RejectCode.UNDECODABLE, f"not a {self._update.file} record: {value[:16].hex()}")
        return value, branch

    def _absorb_label(self, state: EntityState | None, value: bytes) -> None:
        label, end = read(value, _PAYLOAD, self._label, self._update.file)
        if end != len(value):
            raise Poison(RejectCode.UNDECODABLE, f"{self._update.file}: {len(value) - end} bytes behind the label")
        if state is not None:
            tag = tag_of(identity_of(label["customer_id"], label["event_id"]))
            self.view.apply_label(state, label["event_time_ms"], tag, label["label"], label["label_version"] > 1)


def _vector(view: View, state: EntityState | None, event: Event | dict[str, Any]) -> tuple[bytes, FeatureStatus]:
    exponent = EXPONENTS.get(event["currency"])
    if exponent is None:
        raise Poison(
            RejectCode.UNDECODABLE,
            f"currency={event['currency']!r}: not known to this version; deploy ingestion and features of one version",
            "currency",
        )
    if state is None:
        return view.fallback_vector(event["event_time_ms"], event["amount_minor"], exponent), "fallback"
    tag = tag_of(identity_of(event["customer_id"], event["event_id"]))
    return view.apply_event(state, event["event_time_ms"], event["amount_minor"], exponent, tag)


def _own_length(customer_vector: bytes) -> int:
    """Bytes of customer_status and customer_vector at the end of an EventUpdate: enum, length, bytes."""
    length = 2 * len(customer_vector)  # zigzag
    varint = 1
    while length > 0x7F:
        length >>= 7
        varint += 1
    return 1 + varint + len(customer_vector)
