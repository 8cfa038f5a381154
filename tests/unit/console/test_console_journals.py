"""Journals as the page tells them: folded as everybody folds them, without bundles, and bounded."""

from __future__ import annotations

import json
from typing import Any

from services.console.journals import ENTRIES_MAX, TRAIL_MAX, Alerts, AuditTrail, Models, Policies
from services.mesh.bundle_parts import Bundle
from services.mesh.model_registry import release_of


def bundle(text: str) -> Bundle:
    manifest = {"metrics": {"average_precision": 0.7}, "rows": 10, "parameters": {"champion": "bootstrap"}}
    return Bundle(manifest=json.dumps(manifest).encode(), signature=b"s", model=text.encode(), fallback=b"f")


def released(version: str, move: Any, **more: Any) -> dict[str, Any]:
    return dict(release_of(version, move, why="because", actor="retraining", event_time_ms=1, **more))


def test_models_tell_who_serves_and_every_move_with_its_evidence() -> None:
    models = Models()
    assert models.told()["champion"] == "bootstrap"
    models.take(released("m1", "promote", bundle=bundle("1"), evidence='{"gain": 0.1}'), 5)
    models.take(released("m2", "canary", bundle=bundle("2"), canary_percent=10), 6)
    models.take(released("m9", "promote"), 7)
    told = models.told()
    assert (told["champion"], told["canary"]) == ("m1", {"model_version": "m2", "percent": 10})
    newest, canary, first = told["entries"]
    assert "brings no bundle" in newest["void"]
    assert canary["canary_percent"] == 10
    assert (first["evidence"], first["metrics"]) == ({"gain": 0.1}, {"average_precision": 0.7})
    assert first["made_from"] == {"rows": 10, "champion": "bootstrap"}
    assert "model" not in first


def policy(version: str, move: str = "publish", **more: Any) -> dict[str, Any]:
    kept = {"author": "ann", "approver": None, "why": "w", "percent": 100, "expects": None, "diff": "", "policy": "p"}
    return {"policy_version": version, "move": move, **kept, **more}


def test_policies_tell_which_one_decides_and_their_text() -> None:
    policies = Policies()
    policies.take(policy("p1", policy="name: one"), 1)
    policies.take(policy("p2", percent=10, diff="-a\n+b\n"), 2)
    told = policies.told()
    assert (told["in_force"], told["rollout"]) == ("p1", {"policy_version": "p2", "percent": 10})
    assert told["entries"][0]["diff"] == "-a\n+b\n"
    assert policies.text("p1") == "name: one"
    assert policies.text("p9") is None


def alert(alert_id: str, status: str, **more: Any) -> dict[str, Any]:
    return {"alert_id": alert_id, "status": status, "is_harm": False, "window_end_ms": 1, **more}


def test_alerts_hold_until_they_are_cleared_and_harm_comes_first() -> None:
    alerts = Alerts()
    for found in (
        alert("a", "raised"),
        alert("b", "raised", is_harm=True),
        alert("c", "raised"),
        alert("c", "cleared"),
    ):
        alerts.take(found, 1)
    alerts.take(alert("a", "raised"), 2)
    assert [held["alert_id"] for held in alerts.told()["open"]] == ["b", "a"]
    assert alerts.open == 2
    assert len(alerts.told()["entries"]) == 5


def entry(number: int, subject: str = "case:1", role: str = "analyst") -> dict[str, Any]:
    return {"audit_id": str(number), "subject": subject, "actor": "vera", "role": role}


def test_the_trail_knows_what_was_done_with_a_case_and_counts_repeats_once() -> None:
    trail = AuditTrail()
    for number in (1, 2, 2, 3):
        trail.take(entry(number, "case:1" if number < 3 else "case:2"), number)
    assert [found["audit_id"] for found in trail.about("case:1")] == ["1", "2"]
    assert [found["audit_id"] for found in trail.told()] == ["3", "2", "1"]


def test_what_services_tell_pushes_out_nothing_that_people_did() -> None:
    trail = AuditTrail()
    trail.take(entry(-1), 0)
    for number in range(TRAIL_MAX + 1):
        trail.take(entry(number, role="service"), number)
    assert trail.about("case:1")[0]["audit_id"] == "-1"
    assert trail.told()[-1]["audit_id"] == "-1"


def test_journals_stay_small() -> None:
    models, policies, alerts, trail = Models(), Policies(), Alerts(), AuditTrail()
    for number in range(TRAIL_MAX + 10):
        trail.take(entry(number), number)
    for number in range(ENTRIES_MAX + 10):
        models.take(released("m", "note"), number)
        policies.take(policy(f"p{number}"), number)
        alerts.take(alert(str(number), "raised"), number)
        alerts.take(alert(str(number), "cleared"), number)
    for told in (models.told()["entries"], policies.told()["entries"], alerts.told()["entries"], trail.told()):
        assert len(told) == ENTRIES_MAX
    assert len(trail.about("case:1")) == TRAIL_MAX
