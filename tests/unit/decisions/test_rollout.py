"""Who decides whom: shares of customers, policies beside, and a rollback, each named on every decision."""

from __future__ import annotations

from typing import Any

from test_desk_policies import PIN, TEXT, Shelf, named
from test_handler_decisions import record

from services.decisions.handler import DecisionsHandler
from services.mesh.codec import Codec
from services.mesh.ports import InRecord

DECISION = Codec("decision.v1.avsc")
OLD = f"# old\n{TEXT}"
# Declines whatever has a score at all, so that the two are told apart by what they do.
NEW = f"# new\n{TEXT}".replace(
    "\nrules:\n", "\nrules:\n  - {name: harsh, when: amount_minor >= 0, action: decline, reason: Harsh.}\n", 1
)


def started(*moves: tuple[str, dict[str, Any]]) -> tuple[Shelf, DecisionsHandler]:
    shelf = Shelf()
    shelf.publish(OLD)
    for text, fields in moves:
        shelf.publish(text, **fields)
    return shelf, DecisionsHandler(shelf.desk(), PIN, shelf.telemetry)


def batch(customers: int = 400) -> list[InRecord]:
    return [record(n, customer_id=f"c{n % customers}", score=0.01) for n in range(2 * customers)]


def decisions(handler: DecisionsHandler, records: list[InRecord]) -> list[dict[str, Any]]:
    return [DECISION.decode(emit.value) for emit in handler.step(records)]


def test_a_share_of_the_customers_is_decided_by_the_new_one_the_same_customers_each_time() -> None:
    shelf, handler = started((NEW, {"percent": 10}))
    found = decisions(handler, batch())
    of = {
        version: {d["customer_id"] for d in found if d["policy_version"] == version}
        for version in (named(OLD), named(NEW))
    }
    assert 20 <= len(of[named(NEW)]) <= 65
    assert not of[named(OLD)] & of[named(NEW)]
    assert {d["action"] for d in found if d["policy_version"] == named(NEW)} == {"decline"}
    assert {d["action"] for d in found if d["policy_version"] == named(OLD)} == {"approve"}
    # A larger share holds all of the smaller one's.
    shelf.publish(NEW, percent=40)
    handler.idle()
    wider = {d["customer_id"] for d in decisions(handler, batch()) if d["policy_version"] == named(NEW)}
    assert of[named(NEW)] < wider
    shelf.publish(NEW)
    handler.idle()
    assert {d["policy_version"] for d in decisions(handler, batch())} == {named(NEW)}


def test_one_event_is_decided_alike_alone_and_in_any_batch() -> None:
    _, handler = started((NEW, {"percent": 30}))
    together = [emit.value for emit in handler.step(batch(50))]
    assert [handler.step([one])[0].value for one in batch(50)] == together


def test_a_rollback_is_in_force_with_the_next_batch() -> None:
    shelf, handler = started((NEW, {"percent": 50}))
    shelf.publish(OLD, move="rollback")
    handler.idle()
    assert {d["policy_version"] for d in decisions(handler, batch())} == {named(OLD)}
    assert shelf.telemetry.health.versions["policy_rollout"] == "none"


def test_a_policy_beside_decides_nothing_and_its_other_opinions_are_recorded() -> None:
    shelf, handler = started((NEW, {"move": "shadow"}))
    calm, angry = decisions(handler, [record(0, score=0.01), record(1, score=0.99)])
    assert (calm["policy_version"], calm["action"]) == (named(OLD), "approve")
    assert calm["shadow_verdicts"] == [{"policy_version": named(NEW), "action": "decline", "rule_hits": ["harsh"]}]
    assert calm["conditions"] == []  # it was simply approved
    assert angry["action"] == "decline"
    assert angry["shadow_verdicts"] == []  # they agree
    assert shelf.count("weir_shadow_differs_total") == 1
    assert shelf.telemetry.health.versions["policies_beside"] == named(NEW)


def test_what_is_not_simply_approved_says_how_every_condition_stood() -> None:
    _, handler = started()
    plain, declined = decisions(handler, [record(0, score=0.01), record(1, score=0.99)])
    assert plain["conditions"] == []
    told = {(each["of"], each["text"]): each["held"] for each in declined["conditions"]}
    assert told["segment default", "score >= 0.8"] == "yes"
    assert told["rule card_testing", "customer_count_5m >= 10"] == "no"
    assert told["limit low_confidence", "challenger_gap >= 0.4"] == "unknown"


def test_a_release_whose_text_is_not_what_it_says_is_refused() -> None:
    shelf, handler = started((NEW, {"policy_version": named(OLD)}))
    assert {d["policy_version"] for d in decisions(handler, batch(5))} == {named(OLD)}
    assert shelf.count("weir_policies_refused_total") == 1
    shelf.publish(NEW, policy_version="payments-default-00000000")
    handler.idle()
    assert {d["policy_version"] for d in decisions(handler, batch(5))} == {named(OLD)}
    assert shelf.count("weir_policies_refused_total") == 2


def test_two_people_are_asked_for_by_the_policy_in_force() -> None:
    shelf = Shelf()
    strict = f"approval: two_people\n{TEXT}"
    shelf.publish(strict)
    handler = DecisionsHandler(shelf.desk(), PIN, shelf.telemetry)
    for approver, version in ((None, named(strict)), ("a", named(strict)), ("b", named(NEW))):
        shelf.publish(NEW, approver=approver)
        handler.idle()
        assert {d["policy_version"] for d in decisions(handler, batch(3))} == {version}
