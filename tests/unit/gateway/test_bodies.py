"""Bodies over HTTP get the verdict that ingestion gives the same bytes; batches are judged item by item."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from services.gateway.bodies import Posted, event_in, events_in, outcome_in
from services.gateway.limits import check_depth
from services.gateway.problem import Kind, Problem
from services.ingestion.admission import Candidate, candidate_of_outcome
from services.mesh.event_fields import valid_event
from services.mesh.json_fields import json_fields
from services.mesh.outcome_fields import valid_outcome
from tests.unit.ingestion.corpus import FULL, json_cases, json_text

CASES = [case for case in json_cases() if case[1] is not None]
OUTCOME = {
    "outcome_id": "o-1", "event_id": "e-1", "customer_id": "c-1", "label": "fraud", "source": "analyst",
    "observed_time_ms": 1_700_000_000_000,
}  # fmt: skip


def code_of(value: bytes) -> str:
    try:
        event_in(value)
    except Problem as problem:
        return problem.code
    return ""


def is_deep(value: bytes) -> bool:
    try:
        check_depth(value)
    except Problem:
        return True
    return False


def test_every_case_of_ingestions_corpus_gets_ingestions_verdict() -> None:
    count = 0
    for name, value, code in CASES:
        assert value is not None
        found = code_of(value)
        if is_deep(value):  # refused before it is parsed, whatever it would turn out to be
            assert (name, found) == (name, "malformed_json")
            continue
        expected = "" if code == "clock_ahead" else code  # the log's word
        assert (name, found) == (name, expected)
        count += 1
    assert count > 200


def test_every_case_is_judged_in_a_batch_as_it_is_alone() -> None:
    for name, value, code in CASES:
        assert value is not None
        if not value.strip():
            continue  # between brackets, an empty array
        try:
            (item,) = events_in(b"[" + value + b"]", 2)
            found = item.code if isinstance(item, Problem) else ""
        except Problem as problem:
            found = problem.code
        if is_deep(b"[" + value + b"]"):
            assert (name, found) == (name, "malformed_json")
        elif code == "malformed_json":
            # Two documents with a comma between them are an array of two.
            assert found == "malformed_json" or b"," in value, name
        elif code != "too_large":  # of white space, which is not kept
            assert (name, found) == (name, "" if code == "clock_ahead" else code)


@pytest.mark.parametrize("left_out", [(), ("event_id",), ("event_id", "currency", "channel")])
def test_identity_and_body_are_those_that_ingestion_compares(left_out: tuple[str, ...]) -> None:
    body = json_text({name: value for name, value in FULL.items() if name not in left_out})
    posted = event_in(body)
    candidate = Candidate.of(valid_event(json_fields(body)), b"")
    assert (posted.identity, posted.body_hash) == (candidate.identity, candidate.body)
    # And what is appended is judged as the same event, with its id in it.
    again = json_fields(posted.value)
    assert again["event_id"] == posted.event_id
    assert Candidate.of(valid_event(again), b"") == candidate


def test_a_callers_bytes_are_kept_as_they_are() -> None:
    body = b'  {"amount_minor" : 5, "event_id":"e", "customer_id":"c","terminal_id":"t","event_time_ms":9}\n'
    assert event_in(body).value == body


@pytest.mark.parametrize("left_out", [(), ("outcome_id",)])
def test_outcomes_are_identified_as_ingestion_does(left_out: tuple[str, ...]) -> None:
    body = json.dumps({name: value for name, value in OUTCOME.items() if name not in left_out}).encode()
    posted = outcome_in(body)
    candidate = candidate_of_outcome(valid_outcome(json_fields(body)), b"")
    assert (posted.identity, posted.body_hash, posted.trace) == (candidate.identity, candidate.body, candidate.event)
    assert json.loads(posted.value)["outcome_id"] == posted.own_id


def test_examples_that_people_copy_are_taken() -> None:
    folder = files("schemas").joinpath("payments/examples")
    events = folder.joinpath("event_raw.good.jsonl").read_bytes().splitlines()
    outcomes = [file.read_bytes() for file in folder.joinpath("outcome_raw.v1").iterdir()]
    assert [event_in(line).event_id for line in events]
    assert [outcome_in(text).own_id for text in outcomes]


def test_each_item_of_a_batch_stands_for_itself() -> None:
    good = json.dumps(FULL).encode()
    items = events_in(b"[" + b",".join([good, b'{"event_id":"e"}', b"7", b'{"a":1,"a":2}', good]) + b"]", 5)
    assert [item.kind if isinstance(item, Problem) else type(item) for item in items] == [
        Posted, Kind.INVALID, Kind.MALFORMED, Kind.MALFORMED, Posted,
    ]  # fmt: skip
    assert [str(item) for item in items if isinstance(item, Problem)] == [
        "item 1: customer_id is missing (the record has event_id); every event needs it",
        "item 2 is int: 7; send one object an event",
        "item 3: key 'a' stands twice; which one is meant? send it once",
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is not JSON"),
        (b"{}", "is an object; send a JSON array"),
        (b"7", "is int"),
        (b"[]", "the array holds 0 events; send 1 to 2 at once"),
        (b"[1,2,3]", "the array holds 3 events; send 1 to 2 at once"),
        (b"[1,2", "is not JSON"),
        (b"[NaN]", "NaN is no number of JSON"),
        (b"\xef\xbb\xbf[1]", "is not JSON"),
        ("[1]".encode("utf-16"), "is not JSON"),
        (b"[" + b"1" * 5_000 + b"]", "is not JSON"),
    ],
)
def test_what_is_no_batch_is_refused_whole(body: bytes, said: str) -> None:
    with pytest.raises(Problem, match=said) as refused:
        events_in(body, 2)
    assert refused.value.kind in (Kind.MALFORMED, Kind.TOO_LARGE)
