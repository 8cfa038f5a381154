"""Records about cases, out and back in: ``reviews.v1``, an analyst's outcome, the queue's own document. Pure.

``follow`` adds up records to a case. It may be handed a record twice, and opinions at any time, because people write
them beside the service: what it knows already changes nothing.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from hashlib import blake2b
from typing import Any, Final

import orjson

from services.mesh.codec import Codec
from services.mesh.headers import TRACEPARENT, traceparent_of
from services.mesh.identity import identity_of
from services.mesh.ports import Header, OutRecord
from services.mesh.records import Action, Label, OutcomeRaw, Review, ReviewEscalation, ReviewOpened, ReviewResolution
from services.mesh.review import Case, Claim, Filed, Judgement, Opinion, case_id_of, with_opinions
from services.mesh.topics import OUTCOMES_RAW, REVIEWS

SERVICE: Final = "review"
"""Actor of what nobody but the service did."""


def opened_move(customer_id: str, event_id: str, opened: ReviewOpened) -> Review:
    """A case begins."""
    why = "; ".join(reason["text"] for reason in opened["reasons"][:1])
    case = Case(case_id=case_id_of(customer_id, event_id), event_id=event_id, customer_id=customer_id, opened=opened)
    return _move(case, opened["opened_time_ms"], SERVICE, why) | {"move": "opened", "opened": opened}


def opinion_move(case: Case, judgement: Judgement) -> Review:
    """Somebody judged a case on which another one has to agree."""
    own: dict[str, Any] = {"move": "opinion", "verdict": judgement.verdict}
    return _move(case, judgement.time_ms, judgement.analyst, judgement.why) | own  # type: ignore[return-value]


def escalated_move(case: Case, escalation: ReviewEscalation, time_ms: int, why: str) -> Review:
    """A case goes to supervisors."""
    return _move(case, time_ms, SERVICE, why) | {"move": "escalated", "escalation": escalation}


def overflowed_move(case: Case, default_action: Action, time_ms: int, why: str) -> Review:
    """People have no room for a case."""
    return _move(case, time_ms, SERVICE, why) | {"move": "overflowed", "default_action": default_action}


def closed_move(
    case: Case, resolution: ReviewResolution, verdict: Label | None, outcome_id: str | None, time_ms: int, why: str
) -> Review:
    """A case ends."""
    own: dict[str, Any] = {"move": "closed", "resolution": resolution, "verdict": verdict, "outcome_id": outcome_id}
    return _move(case, time_ms, SERVICE, why) | own  # type: ignore[return-value]


def follow(case: Case | None, move: Review) -> Case | None:
    """``case`` after one of its records; None while its beginning is not known."""
    if move["opened"] is not None and case is None:
        return Case(
            case_id=move["case_id"], event_id=move["event_id"], customer_id=move["customer_id"], opened=move["opened"]
        )
    if case is None:
        return None
    match move["move"]:
        case "opinion":
            assert move["verdict"] is not None
            opinion = Opinion(
                analyst=move["actor"], verdict=move["verdict"], why=move["why"], time_ms=move["moved_time_ms"]
            )
            return with_opinions(case, [opinion])
        case "escalated" if move["escalation"] == "overdue":
            return dataclasses.replace(case, is_overdue=True)
        case "overflowed":
            return dataclasses.replace(case, default_action=move["default_action"])
        case "closed":
            return dataclasses.replace(
                case,
                resolution=move["resolution"] or "other",
                verdict=move["verdict"],
                outcome_id=move["outcome_id"],
                closed_time_ms=move["moved_time_ms"],
            )
        case _:
            return case


def review_record(move: Review, partition: int | None = None) -> OutRecord:
    """``move`` as a record of ``reviews.v1``; without ``partition`` the key decides, which comes to the same."""
    key, event = move["customer_id"], move["event_id"]
    return OutRecord(REVIEWS.name, key.encode(), _reviews().encode(move), partition, _trace(key, event))


def review_of(value: bytes | None) -> Review:
    """The step in a record's value. Raises Poison."""
    return _reviews().decode(value)  # type: ignore[return-value]


def outcome_of(case: Case, judgement: Judgement) -> OutcomeRaw:
    """What a final verdict says to the rest of the mesh. Its id follows from the verdict: a repeat is a repeat."""
    return {
        "outcome_id": outcome_id_of(case.case_id, judgement),
        "event_id": case.event_id,
        "customer_id": case.customer_id,
        "label": judgement.verdict,
        "source": "analyst",
        "observed_time_ms": judgement.observed_time_ms,
        "revises": None,
    }


def outcome_id_of(case_id: str, judgement: Judgement) -> str:
    """``review-<case>-<hash of who, what and when>``."""
    said = f"{judgement.analyst}\x1f{judgement.verdict}\x1f{judgement.observed_time_ms}"
    return f"{_outcome_prefix(case_id)}{blake2b(said.encode(), digest_size=8).hexdigest()}"


def is_outcome_of(case_id: str, outcome_id: str | None) -> bool:
    """Whether an outcome is a verdict on that case."""
    return outcome_id is not None and outcome_id.startswith(_outcome_prefix(case_id))


def outcome_record(outcome: OutcomeRaw) -> OutRecord:
    """``outcome`` as a record of ``outcomes.raw.v1``."""
    key, event = outcome["customer_id"], outcome["event_id"]
    return OutRecord(OUTCOMES_RAW.name, key.encode(), _outcomes().encode(outcome), None, _trace(key, event))


def packed(filed: Filed) -> bytes:
    """The queue's document of a case."""
    return orjson.dumps(filed)


def unpacked(document: bytes) -> Filed:
    """The reverse of ``packed``."""
    found: dict[str, Any] = orjson.loads(document)
    of_case = found["case"]
    opinions = tuple(Opinion(**opinion) for opinion in of_case.pop("opinions"))
    return Filed(
        case=Case(opinions=opinions, **of_case),
        claim=None if found["claim"] is None else Claim(**found["claim"]),
        judgement=None if found["judgement"] is None else Judgement(**found["judgement"]),
        version=found["version"],
    )


def _move(case: Case, time_ms: int, actor: str, why: str) -> Review:
    return {
        "case_id": case.case_id,
        "event_id": case.event_id,
        "customer_id": case.customer_id,
        "move": "other",
        "moved_time_ms": time_ms,
        "actor": actor,
        "why": why,
        "opened": None,
        "verdict": None,
        "escalation": None,
        "default_action": None,
        "resolution": None,
        "outcome_id": None,
    }


def _outcome_prefix(case_id: str) -> str:
    return f"review-{case_id}-"


def _trace(customer_id: str, event_id: str) -> list[Header]:
    return [(TRACEPARENT, traceparent_of(identity_of(customer_id, event_id)))]


@cache
def _reviews() -> Codec:
    return Codec(REVIEWS.schemas[0])


@cache
def _outcomes() -> Codec:
    return Codec(OUTCOMES_RAW.schemas[0])
