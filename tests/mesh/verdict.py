"""The checker: what the design promises, looked for in a quiet mesh's topics. Shares no code with what it checks.

Features are recomputed by ``tests/oracle`` from each view's own input in offset order; repeats in an input (a torn
transaction shows its outputs twice) are told by where they come from, in a set of all that was ever taken.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from whole_mesh import VIEWS, Mesh, committed_of

from services.features.layout import pack, unpack
from services.mesh.codec import Codec
from services.mesh.ports import InRecord
from tests.oracle.feature_oracle import NAMES, FeatureOracle, served

_HOP = struct.Struct("<BHqHqH")
_EXPONENTS = {"EUR": 2, "JPY": 0, "KWD": 3}


class Broken(AssertionError):
    """A promise was broken."""


@dataclass
class Verdict:
    """What was seen while nothing was found broken."""

    accepted: int = 0
    repeats: int = 0
    statuses: Counter[str] = field(default_factory=Counter)


def check(mesh: Mesh, torn: bool = False) -> Verdict:
    """Raises Broken. ``torn``: transactions were torn on purpose, so topics between stages may hold repeats."""
    verdict = Verdict()
    accepted = _accepted(mesh, verdict, torn)
    _check_decisions(mesh, accepted)
    updates = _check_customer_features(mesh, verdict)
    _check_terminal_features(mesh, updates, verdict)
    _check_dead_letters(mesh, torn)
    for stage in VIEWS:
        check_store(mesh, stage)
    return verdict


def _fail(promise: str, what: str) -> None:
    raise Broken(f"{promise}: {what}")


def _accepted(mesh: Mesh, verdict: Verdict, torn: bool) -> dict[tuple[str, str], dict[str, Any]]:
    codec = Codec("payments/event.v1.avsc")
    accepted: dict[tuple[str, str], dict[str, Any]] = {}
    for record in mesh.broker.all_records("events.v1"):
        event = codec.decode(record.value)
        identity = (event["customer_id"], event["event_id"])
        if identity in accepted:
            if not torn:
                _fail("G1", f"{identity} was accepted twice")
            verdict.repeats += 1
        accepted.setdefault(identity, event)
    verdict.accepted = len(accepted)
    return accepted


def _check_decisions(mesh: Mesh, accepted: dict[tuple[str, str], dict[str, Any]]) -> None:
    codec = Codec("decision.v1.avsc")
    decided: dict[tuple[str, str], dict[str, Any]] = {}
    for record in mesh.broker.all_records("decisions.v1"):
        decision = codec.decode(record.value)
        identity = (decision["customer_id"], decision["event_id"])
        if identity in decided:
            _fail("G1", f"{identity} was decided twice")
        decided[identity] = decision
        if identity not in accepted:
            _fail("G1", f"{identity} was decided and never accepted")
        event = accepted[identity]
        if any(decision[name] != value for name, value in event.items()):
            _fail("G1", f"{identity}: the decision is of another event")
        if record.partition != event["source_partition"] or record.key != event["customer_id"].encode():
            _fail("G5", f"{identity}: partition {record.partition} is not its customer's")
    missing = accepted.keys() - decided.keys()
    if missing:
        _fail("G1", f"{len(missing)} of {len(accepted)} accepted events have no decision, such as {min(missing)}")
    origins = Counter((d["source_partition"], d["source_offset"]) for d in decided.values())
    if any(count > 1 for count in origins.values()):
        _fail("G5", "two decisions have one origin")


def _fresh(records: list[InRecord]) -> list[InRecord]:
    """Each record once, by where it comes from."""
    taken: set[tuple[int, bytes]] = set()
    fresh = []
    for record in records:
        origin = (record.partition, next(value for name, value in record.headers if name == "weir" and value))
        if origin not in taken:
            taken.add(origin)
            fresh.append(record)
    return fresh


def _tag(event: dict[str, Any]) -> int:
    return hash((event["customer_id"], event["event_id"]))


def _oracle(mesh: Mesh, name: Literal["customer", "terminal"]) -> FeatureOracle:
    view = mesh.feature_set.view(name)
    return FeatureOracle(name, view.exact_events_max, max(1, view.memory_bytes // 48 // mesh.partitions))


def _check_customer_features(mesh: Mesh, verdict: Verdict) -> dict[tuple[str, str], dict[str, Any]]:
    codec = Codec("payments/event.v1.avsc")
    oracle = _oracle(mesh, "customer")
    expected = {}
    for record in _fresh(mesh.broker.all_records("events.v1")):
        event = codec.decode(record.value)
        exponent = _EXPONENTS[event["currency"]]
        values, status = oracle.event(
            event["customer_id"],
            event["event_time_ms"],
            event["amount_minor"],
            exponent,
            _tag(event),
            record.partition,
        )
        expected[event["customer_id"], event["event_id"]] = (served(values), status)
    codec = Codec("terminal_update.v1.avsc")
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for record in mesh.broker.all_records("updates.terminal.v1"):
        update = codec.decode(record.value)["update"]
        if "customer_vector" not in update:
            continue
        identity = (update["customer_id"], update["event_id"])
        if identity in found:
            continue
        found[identity] = update
        vector, status = expected[identity]
        verdict.statuses[f"customer {update['customer_status']}"] += 1
        if update["customer_status"] == "fallback":
            _compare(identity, "customer", update["customer_vector"][:12] + b"\0" * 40, vector[:12] + b"\0" * 40)
        elif update["customer_status"] != status:
            _fail("G2", f"{identity}: customer status {update['customer_status']}, should be {status}")
        else:
            _compare(identity, "customer", update["customer_vector"], vector)
    return found


def _check_terminal_features(mesh: Mesh, updates: dict[tuple[str, str], dict[str, Any]], verdict: Verdict) -> None:
    codec = Codec("terminal_update.v1.avsc")
    oracle = _oracle(mesh, "terminal")
    expected = {}
    for record in _fresh(mesh.broker.all_records("updates.terminal.v1")):
        update = codec.decode(record.value)["update"]
        terminal, time_ms = update["terminal_id"], update["event_time_ms"]
        if "customer_vector" not in update:
            oracle.label(terminal, time_ms, _tag(update), update["label"], update["label_version"] > 1)
            continue
        exponent = _EXPONENTS[update["currency"]]
        minor, tag = update["amount_minor"], _tag(update)
        values, status = oracle.event(terminal, time_ms, minor, exponent, tag, record.partition)
        expected[update["customer_id"], update["event_id"]] = (served(values), status)
    nothing = struct.pack("<f", math.nan) * len(NAMES["terminal"])
    customer_bytes = 4 * len(NAMES["customer"])
    worse = ("ok", "saturated", "stale", "fallback")
    codec = Codec("features.v1.avsc")
    found = set()
    for record in mesh.broker.all_records("features.v1"):
        event = codec.decode(record.value)
        identity = (event["customer_id"], event["event_id"])
        if identity in found:
            continue
        found.add(identity)
        own, theirs = event["vector"][customer_bytes:], event["vector"][:customer_bytes]
        customer_status = updates[identity]["customer_status"]
        if theirs != updates[identity]["customer_vector"]:
            _fail("G2", f"{identity}: the customer's vector changed on its way")
        vector, status = expected[identity]
        is_fallback = event["feature_status"] == "fallback" and own == nothing
        verdict.statuses[f"terminal {'fallback' if is_fallback else status}"] += 1
        if is_fallback:
            continue
        should = max(status, customer_status, key=worse.index)
        if event["feature_status"] != should:
            _fail("G2", f"{identity}: status {event['feature_status']}, should be {should}")
        _compare(identity, "terminal", own, vector)


def _compare(identity: tuple[str, str], view: str, found: bytes, expected: bytes) -> None:
    if found == expected:
        return
    pairs = zip(NAMES[view], struct.iter_unpack("<f", found), struct.iter_unpack("<f", expected), strict=True)  # type: ignore[index]
    wrong = [f"{name} is {a} should be {b}" for name, (a,), (b,) in pairs if struct.pack("f", a) != struct.pack("f", b)]
    _fail("G2", f"{identity}: {'; '.join(wrong)}")


def _check_dead_letters(mesh: Mesh, torn: bool) -> None:
    origins: Counter[tuple[bytes | None, ...]] = Counter()
    for record in mesh.broker.all_records("dead-letters.v1"):
        headers = dict(record.headers)
        origins[headers["origin_topic"], headers["origin_partition"], headers["origin_offset"]] += 1
        if headers["stage"] != b"ingestion":
            _fail("G4", f"{headers['stage']!r} refused what ingestion let in: {headers['error_message']!r}")
    if not torn and any(count > 1 for count in origins.values()):
        _fail("G4", "a reject is in dead letters twice")


def check_store(mesh: Mesh, stage: str) -> None:
    """What is stored equals what a fresh replay of the whole log leaves in an empty store."""
    live = mesh.redis[VIEWS[stage]]
    ends = committed_of(mesh, stage)
    replayed = mesh.replay(stage, ends)
    view = mesh.feature_set.view(VIEWS[stage])
    offsets = {partition: committed.offset for partition, committed in ends.items()}
    for name, redis in (("stored", live), ("replayed", replayed)):
        marks = {partition: mark.offset for partition, mark in redis.marks.items() if mark.offset}
        if marks != offsets:
            _fail("state", f"{stage}: {name} marks are {marks}, the log is at {offsets}")
    full, as_full = (
        {partition: mark.metadata.split(" ")[2] for partition, mark in redis.marks.items() if mark.offset}
        for redis in (live, replayed)
    )
    if full != as_full:
        _fail("state", f"{stage}: how full its windows are differs from a fresh replay")
    stored = {where: pack(unpack(view, value)) for where, value in live.values.items()}
    anew = {where: pack(unpack(view, value)) for where, value in replayed.values.items()}
    if stored != anew:
        wrong = sorted(where for where in stored.keys() | anew.keys() if stored.get(where) != anew.get(where))
        _fail("state", f"{stage}: {len(wrong)} of {len(anew)} entities differ from a fresh replay, such as {wrong[0]}")
