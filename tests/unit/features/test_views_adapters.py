"""A view between its topics: what comes in is kept, what goes out is added, and a replay refuses what was refused."""

from __future__ import annotations

import struct
from importlib.resources import files
from typing import Any

import pytest

from services.features.definitions import load_feature_set
from services.features.layout import pack
from services.features.views import ViewAdapter, adapter_of
from services.mesh.codec import Codec
from services.mesh.errors import Poison
from services.mesh.ports import InRecord

FEATURES = load_feature_set(files("schemas").joinpath("payments/features.yaml").read_text(), "features.yaml")
EVENT, UPDATE, VECTOR = (Codec(f) for f in ("payments/event.v1.avsc", "terminal_update.v1.avsc", "features.v1.avsc"))
CUSTOMER_BYTES = 4 * FEATURES.view("customer").count
FIELDS: dict[str, Any] = {
    "event_id": "e1",
    "customer_id": "c1",
    "terminal_id": "t1",
    "event_time_ms": 1_600_000_000_000,
    "amount_minor": 1_250,
    "currency": "EUR",
    "channel": "online",
    "country": None,
    "device_id": "d",
    "source_partition": 5,
    "source_offset": 77,
    "raw_append_time_ms": 1,
}
UPDATED = {
    **FIELDS,
    "event_append_time_ms": 2,
    "customer_status": "ok",
    "customer_vector": struct.pack("<f", 1.0) * FEATURES.view("customer").count,
}


def event_record(**fields: Any) -> InRecord:
    return InRecord("events.v1", 5, 9, 42, b"c1", EVENT.encode({**FIELDS, **fields}), ())


def update_record(**fields: Any) -> InRecord:
    value = UPDATE.encode({"update": ("weir.EventUpdate", {**UPDATED, **fields})})
    return InRecord("updates.terminal.v1", 1, 9, 43, b"t1", value, ())


def label_record(**fields: Any) -> InRecord:
    label = {name: FIELDS[name] for name in ("event_id", "customer_id", "terminal_id", "event_time_ms")}
    label |= {"label": "fraud", "label_version": 1, "observed_time_ms": 5}
    value = UPDATE.encode({"update": ("weir.LabelUpdate", {**label, **fields})})
    return InRecord("updates.terminal.v1", 1, 10, 44, b"t1", value, ())


def test_the_customers_view_hands_on_the_event_and_its_features() -> None:
    adapter = adapter_of("customer", FEATURES)
    emit, status = adapter.apply(adapter.view.new_state(), event_record(), 3)
    assert status == "ok"
    assert emit is not None
    assert (emit.topic, emit.key, emit.partition, emit.source) == ("updates.terminal.v1", b"t1", None, 3)
    update = UPDATE.decode(emit.value)["update"]
    assert {name: update[name] for name in FIELDS} == FIELDS
    assert (update["event_append_time_ms"], update["customer_status"]) == (42, "ok")
    assert struct.unpack_from("<f", update["customer_vector"])[0] == 12.5


@pytest.mark.parametrize("size", [1, 200])
def test_the_terminals_view_hands_on_the_whole_vector(size: int) -> None:
    adapter = adapter_of("terminal", FEATURES)
    emit, status = adapter.apply(adapter.view.new_state(), update_record(device_id="d" * size), 3)
    assert status == "ok"
    assert emit is not None
    assert (emit.topic, emit.key, emit.partition, emit.source) == ("features.v1", b"c1", 5, 3)
    features = VECTOR.decode(emit.value)
    assert {name: features[name] for name in FIELDS} == {**FIELDS, "device_id": "d" * size}
    assert (features["event_append_time_ms"], features["update_append_time_ms"]) == (2, 43)
    assert features["feature_set"] == FEATURES.content_hash
    assert features["vector"][:CUSTOMER_BYTES] == UPDATED["customer_vector"]
    assert len(features["vector"]) == 4 * len(FEATURES.names)


@pytest.mark.parametrize("before", ["ok", "saturated", "stale", "fallback"])
def test_the_worse_of_two_statuses_is_handed_on(before: str) -> None:
    adapter = adapter_of("terminal", FEATURES)
    emit, status = adapter.apply(adapter.view.new_state(), update_record(customer_status=before), 0)
    assert emit is not None
    assert VECTOR.decode(emit.value)["feature_status"] == status == before
    emit, status = adapter.apply(None, update_record(customer_status=before), 0)
    assert status == "fallback"


def test_a_label_changes_state_and_leads_to_nothing() -> None:
    adapter = adapter_of("terminal", FEATURES)
    state = adapter.view.new_state()
    adapter.apply(state, update_record(), 0)
    before = pack(state)
    assert adapter.apply(state, label_record(), 1) == (None, "ok")
    assert pack(state) != before
    assert adapter.apply(None, label_record(), 1) == (None, "ok"), "out of reach: the replay applies it"


def test_out_of_reach_only_the_event_speaks() -> None:
    adapter = adapter_of("customer", FEATURES)
    emit, status = adapter.apply(None, event_record(), 0)
    assert status == "fallback"
    assert emit is not None
    vector = UPDATE.decode(emit.value)["update"]["customer_vector"]
    values = struct.unpack(f"<{len(vector) // 4}f", vector)
    assert values[0] == 12.5
    assert all(value != value for value in values[3:]), "NaN, never zero"


def damaged() -> list[tuple[str, InRecord]]:
    event, update, label = event_record(), update_record(), label_record()
    assert event.value is not None
    assert update.value is not None
    assert label.value is not None
    return [
        ("customer", event._replace(value=None)),
        ("customer", event._replace(value=event.value[:-1])),
        ("customer", event._replace(value=event.value + b"\0")),
        ("customer", event._replace(value=update.value)),
        ("customer", event_record(currency="ZZZ")),
        ("customer", event_record(amount_minor=2**62)),
        ("terminal", update._replace(value=None)),
        ("terminal", update._replace(value=update.value[:-1])),
        ("terminal", update._replace(value=update.value + b"\0")),
        ("terminal", update._replace(value=event.value)),
        ("terminal", update._replace(value=update.value[:5] + b"\x04" + update.value[6:])),
        ("terminal", update_record(customer_vector=b"\0" * (CUSTOMER_BYTES - 4))),
        ("terminal", update_record(currency="ZZZ")),
        ("terminal", label._replace(value=label.value[:-3])),
        ("terminal", label._replace(value=label.value + b"\0")),
    ]


@pytest.mark.parametrize(("view", "record"), damaged())
def test_what_is_refused_live_is_refused_in_a_replay_and_changes_nothing(view: str, record: InRecord) -> None:
    adapter: ViewAdapter = adapter_of(view, FEATURES)
    state = adapter.view.new_state()
    before = pack(state)
    with pytest.raises(Poison):
        adapter.apply(state, record, 0)
    assert pack(state) == before
    with pytest.raises(Poison):
        adapter.absorb(state, record)
    assert pack(state) == before


@pytest.mark.parametrize("view", ["customer", "terminal"])
def test_live_and_replay_leave_the_same_state(view: str) -> None:
    adapter = adapter_of(view, FEATURES)
    live, replayed = adapter.view.new_state(), adapter.view.new_state()
    records = [event_record()] if view == "customer" else [update_record(), label_record(), update_record(event_id="2")]
    for record in records:
        adapter.apply(live, record, 0)
        adapter.absorb(replayed, record)
    assert pack(live) == pack(replayed)
