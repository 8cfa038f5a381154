"""Bodies of requests -> records that ingestion will take, as far as one record alone can tell. Pure.

The rules are the mesh's own (``services/mesh/event_fields.py``), so the gateway never lets pass a shape that ingestion
refuses, nor refuses one that it takes. What depends on the log, lateness, clocks, conflicts, is ingestion's alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import orjson

from services.gateway.limits import check_bytes, check_depth
from services.gateway.problem import Kind, Problem, problem_of
from services.mesh.errors import Poison
from services.mesh.event_fields import body_hash_of, shown, valid_event
from services.mesh.identity import identity_of
from services.mesh.json_fields import json_fields
from services.mesh.outcome_fields import outcome_body_hash_of, outcome_identity_of, valid_outcome
from services.mesh.records import EventRaw, OutcomeRaw

BATCH_BYTES_MAX: Final = 1_048_576  # 500 events of two kilobytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """One record, ready for its raw topic."""

    customer_id: str
    event_id: str
    own_id: str  # the event's, or the outcome's
    identity: bytes  # of the record: an outcome's is never an event's
    trace: bytes  # identity of the event that it is, or is about
    body_hash: int
    value: bytes  # as the caller wrote it


def event_in(body: bytes) -> Posted:
    """The one event in ``body``. Raises Problem."""
    fields = _fields(body)
    try:
        return _event(valid_event(fields), fields, body)
    except Poison as poison:
        raise problem_of(poison) from None


def outcome_in(body: bytes) -> Posted:
    """The one outcome in ``body``. Raises Problem."""
    fields = _fields(body)
    try:
        return _outcome(valid_outcome(fields), fields, body)
    except Poison as poison:
        raise problem_of(poison) from None


def events_in(body: bytes, count_max: int) -> list[Posted | Problem]:
    """The events of a JSON array, each by itself. Raises Problem when it is no array of at most ``count_max``."""
    check_depth(body)
    items = _array(body)
    if not isinstance(items, list):
        what = "an object" if isinstance(items, dict) else type(items).__name__
        detail = f"{shown(body)} is {what}; send a JSON array of events"
        raise Problem(Kind.MALFORMED, detail, "malformed_json")
    if not 0 < len(items) <= count_max:
        detail = f"the array holds {len(items)} events; send 1 to {count_max} at once"
        raise Problem(Kind.TOO_LARGE if items else Kind.MALFORMED, detail)
    return [_item(item, number) for number, item in enumerate(items)]


def _fields(body: bytes) -> dict[str, Any]:
    check_bytes(len(body))
    check_depth(body)
    try:
        return json_fields(body)
    except Poison as poison:
        raise problem_of(poison) from None


def _event(event: EventRaw, fields: Mapping[str, Any], body: bytes | None) -> Posted:
    identity = identity_of(event["customer_id"], event["event_id"])
    return Posted(
        customer_id=event["customer_id"],
        event_id=event["event_id"],
        own_id=event["event_id"],
        identity=identity,
        trace=identity,
        body_hash=body_hash_of(event),
        value=_value("event_id", event["event_id"], fields, body),
    )


def _outcome(outcome: OutcomeRaw, fields: Mapping[str, Any], body: bytes) -> Posted:
    return Posted(
        customer_id=outcome["customer_id"],
        event_id=outcome["event_id"],
        own_id=outcome["outcome_id"],
        identity=outcome_identity_of(outcome),
        trace=identity_of(outcome["customer_id"], outcome["event_id"]),
        body_hash=outcome_body_hash_of(outcome),
        value=_value("outcome_id", outcome["outcome_id"], fields, body),
    )


def _value(id_name: str, own_id: str, fields: Mapping[str, Any], body: bytes | None) -> bytes:
    """The caller's bytes; written anew where he left the id out, so that a refusal of it can be found by its id."""
    if body is not None and id_name in fields:
        return body
    value = orjson.dumps({id_name: own_id, **fields})
    check_bytes(len(value))
    return value


class _Pairs(dict[str, Any]):
    """An object, and the first key that stands in it twice."""

    twice: str | None = None


def _item(item: Any, number: int) -> Posted | Problem:
    try:
        if not isinstance(item, _Pairs):
            detail = f"item {number} is {type(item).__name__}: {shown(item)}; send one object an event"
            raise Problem(Kind.MALFORMED, detail, "malformed_json")
        if item.twice is not None:
            detail = f"item {number}: key {shown(item.twice)} stands twice; which one is meant? send it once"
            raise Problem(Kind.MALFORMED, detail, "malformed_json")
        return _event(valid_event(item), item, None)  # the bytes of one item among others are not kept apart
    except Problem as problem:
        return problem
    except Poison as poison:
        return problem_of(poison, f"item {number}")


def _array(body: bytes) -> Any:
    """The standard library's parser: it shows every pair, and so a key that stands twice in an object."""
    try:
        return json.loads(
            body.decode("utf-8"), object_pairs_hook=_object, parse_int=_integer, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:
        detail = f"{shown(body)} is not JSON: {error}; send a JSON array of events in UTF-8"
        raise Problem(Kind.MALFORMED, detail, "malformed_json") from None


def _object(pairs: list[tuple[str, Any]]) -> _Pairs:
    found = _Pairs(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        found.twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return found


def _integer(digits: str) -> int | float:
    """As orjson reads it: what does not fit into 64 bits is no integer."""
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else float(digits)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
