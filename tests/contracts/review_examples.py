"""Examples of what people do: the life of a case that needs four eyes, and the trail of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.mesh.audit import audit_entry
from services.mesh.records import ReviewOpened
from services.mesh.review import Case, Judgement, case_id_of
from services.mesh.review_records import closed_move, opened_move, opinion_move, outcome_id_of, overflowed_move
from services.mesh.topics import DAY_MS

HOUR_MS = 3_600_000


def review_examples(decision: dict[str, Any], now_ms: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Schema file, case and record."""
    shared = (
        "terminal_id", "event_time_ms", "amount_minor", "currency", "channel", "country", "score", "reasons",
        "rule_hits", "model_version", "policy_version", "feature_status",
    )  # fmt: skip
    value_minor = 1_234_500
    own = {
        "amount_minor": value_minor, "value_minor": value_minor, "house_currency": "EUR",
        "expected_loss_minor": round(decision["score"] * value_minor), "decision_partition": 3,
        "decision_offset": 1_187_340, "opened_time_ms": now_ms + 92, "due_time_ms": now_ms + 92 + 4 * HOUR_MS,
        "verdicts_needed": 2,
    }  # fmt: skip
    opened: ReviewOpened = {name: decision[name] for name in shared} | own  # type: ignore[assignment]
    event_id, customer_id = decision["event_id"], decision["customer_id"]
    case = Case(case_id=case_id_of(customer_id, event_id), event_id=event_id, customer_id=customer_id, opened=opened)
    why = "The customer did not make this payment: called back on the known number."
    judgement = Judgement(
        analyst="vera", role="analyst", verdict="fraud", why=why, time_ms=now_ms + HOUR_MS,
        observed_time_ms=now_ms + HOUR_MS, is_final=False,
    )  # fmt: skip
    outcome_id = outcome_id_of(case.case_id, judgement)
    file = "review.v1.avsc"
    yield file, "opened", dict(opened_move(customer_id, event_id, opened))
    yield file, "first-of-four-eyes", dict(opinion_move(case, judgement))
    overflowed = overflowed_move(
        case, "challenge", now_ms + HOUR_MS, "people have room for 2000 at once and 1000 a day"
    )
    yield file, "overflowed", dict(overflowed)
    closed = closed_move(case, "verdict", "fraud", outcome_id, now_ms + 2 * HOUR_MS, "fraud, says analyst")
    yield file, "closed", dict(closed)
    detail = {"verdict": "fraud", "is_final": True, "outcome_id": outcome_id, "event_id": event_id}
    verdict = audit_entry(
        actor="omar", role="analyst", action="review.verdict", subject=f"case:{case.case_id}",
        time_ms=now_ms + 2 * HOUR_MS, origin="console", why=why, detail=detail,
    )  # fmt: skip
    yield "audit_entry.v1.avsc", "verdict", dict(verdict)
    published = audit_entry(
        actor="risk.rosa", role="operator", action="policy.publish", subject="policy:payments-march-1a2b3c4d",
        time_ms=now_ms + DAY_MS, origin="cli", why="backtest over March: 12% fewer reviews", detail={"percent": 10},
    )  # fmt: skip
    yield "audit_entry.v1.avsc", "policy-published", dict(published)
