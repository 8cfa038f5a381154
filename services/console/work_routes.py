"""The routes with which people change something or work: the review queue, the audit trail, requeues, backtests."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from fastapi import FastAPI, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from services.console.answers import answer
from services.console.backtests import Backtests
from services.console.journals import AuditTrail
from services.console.lookups import LIMIT_MAX, Lookups
from services.console.reviews import Reviews
from services.mesh.errors import RejectCode
from services.mesh.records import Label
from services.mesh.review import WHY_CHARACTERS_MAX, Shelf

PLACES_MAX: Final = 200


class Sent(BaseModel):
    """What a page sends: nothing that is not asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Requeue(Sent):
    """Which dead letters: [partition, offset]."""

    # JSON has lists where Python has pairs.
    places: Annotated[
        list[Annotated[list[int], Field(min_length=2, max_length=2)]], Field(min_length=1, max_length=PLACES_MAX)
    ]


class Backtest(Sent):
    """The policy's text."""

    policy: Annotated[str, Field(min_length=1, max_length=400_000)]


class Verdict(Sent):
    """What it was, and what was seen."""

    verdict: Label
    why: Annotated[str, Field(max_length=WHY_CHARACTERS_MAX)]


def add_reviews(app: FastAPI, reviews: Reviews, trail: AuditTrail) -> None:
    """The queue and its trail."""

    @app.get("/api/reviews")
    async def listed(request: Request, shelf: Shelf | None = None, mine: bool = False) -> Response:
        name = request.state.session.name if mine else ""
        return answer({"cases": await reviews.listed(shelf, name)})

    @app.get("/api/reviews/{case_id}")
    async def one(case_id: str) -> Response:
        return answer(await reviews.one(case_id) | {"trail": trail.about(f"case:{case_id}")})

    @app.post("/api/reviews/next")
    async def best(request: Request) -> Response:
        return answer(await reviews.claim(None, request.state.session))

    @app.post("/api/reviews/{case_id}/claim")
    async def claim(request: Request, case_id: str) -> Response:
        return answer(await reviews.claim(case_id, request.state.session))

    @app.post("/api/reviews/{case_id}/release")
    async def release(request: Request, case_id: str) -> Response:
        return answer(await reviews.release(case_id, request.state.session))

    @app.post("/api/reviews/{case_id}/verdict")
    async def verdict(request: Request, case_id: str, sent: Verdict) -> Response:
        return answer(await reviews.judge(case_id, request.state.session, sent.verdict, sent.why))

    @app.get("/api/audit")
    async def audit() -> Response:
        return answer({"entries": trail.told()})


def add_dead_letters(app: FastAPI, lookups: Lookups, reviews: Reviews) -> None:
    """What was refused; sending it once more is in the audit trail before it is done."""

    @app.get("/api/dead-letters")
    async def listed(code: RejectCode | None = None, limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = 50) -> Response:
        found = await lookups.dead_letters(code.value if code else None, limit)
        return answer({"letters": found, "codes": [one.value for one in RejectCode]})

    @app.get("/api/dead-letters/{partition}/{offset}")
    async def one(partition: int, offset: int) -> Response:
        return answer(await lookups.dead_letter(partition, offset))

    @app.post("/api/dead-letters/requeue")
    async def requeue(request: Request, sent: Requeue) -> Response:
        places = [(partition, offset) for partition, offset in sent.places]
        told: dict[str, Any] = {"places": [f"{partition}:{offset}" for partition, offset in places]}
        await reviews.note(request.state.session, "dead_letter.requeue", "topic:dead-letters.v1", told)
        return answer(await lookups.requeue(places))


def add_backtests(app: FastAPI, backtests: Backtests) -> None:
    """Results, and one more."""

    @app.get("/api/backtests")
    async def listed() -> Response:
        return answer({"backtests": await asyncio.to_thread(backtests.listed), "can_run": backtests.can_run})

    @app.get("/api/backtests/{name}")
    async def one(name: str) -> Response:
        return answer(await asyncio.to_thread(backtests.one, name))

    @app.post("/api/backtests")
    async def run(request: Request, sent: Backtest) -> Response:
        return answer(await backtests.run(sent.policy, request.state.session.name))
