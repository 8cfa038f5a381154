"""The routes. Each is in ``access.ACCESS`` or it is nobody's; what a person may see at all is decided at the door."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import orjson
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from services.console.access import ACCESS
from services.console.answers import add_problems, answer, with_body
from services.console.assets import Asset
from services.console.backtests import Backtests
from services.console.doorkeeper import Doorkeeper
from services.console.journals import Alerts, AuditTrail, Models, Policies
from services.console.live import Live
from services.console.lookups import Lookups
from services.console.reviews import Reviews
from services.console.sessions import Session
from services.console.web import App, Guarded
from services.console.work_routes import Sent, add_backtests, add_dead_letters, add_reviews
from services.mesh.errors import Transient
from services.mesh.telemetry import StageTelemetry

_NOTE_S: Final = 3.0
_STILL_S: Final = 15.0  # a comment line so often keeps what stands between from closing the stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the routes answer from."""

    door: Doorkeeper
    live: Live
    models: Models
    policies: Policies
    alerts: Alerts
    trail: AuditTrail
    reviews: Reviews
    lookups: Lookups
    backtests: Backtests
    assets: Mapping[str, Asset]
    telemetry: StageTelemetry
    is_secure: bool


class SignIn(Sent):
    """Who."""

    name: Annotated[str, Field(max_length=64)]
    password: Annotated[str, Field(max_length=256)]


class NewPassword(Sent):
    """From what to what."""

    old: Annotated[str, Field(max_length=256)]
    new: Annotated[str, Field(max_length=256)]


def console_app(parts: Parts) -> App:
    """The whole application."""
    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(parts.door.guard)],
        redirect_slashes=False,
    )
    _page(app, parts)
    _sessions(app, parts)
    _views(app, parts)
    add_dead_letters(app, parts.lookups, parts.reviews)
    add_backtests(app, parts.backtests)
    add_reviews(app, parts.reviews, parts.trail)
    add_problems(app)
    return Guarded(app, is_secure=parts.is_secure)


def _page(app: FastAPI, parts: Parts) -> None:
    @app.get("/")
    async def page(request: Request) -> Response:
        return _file(request, parts.assets["index.html"])

    @app.get("/static/{name:path}")
    async def static(request: Request, name: str) -> Response:
        asset = parts.assets.get(name)
        if asset is None:
            raise HTTPException(404, "there is no such file")
        return _file(request, asset)

    @app.get("/favicon.ico")
    async def icon(request: Request) -> Response:
        return _file(request, parts.assets["icon.svg"])

    @app.get("/api/live")
    async def live(request: Request) -> Response:
        return StreamingResponse(
            _stream(request, parts), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
        )


async def _stream(request: Request, parts: Parts) -> AsyncIterator[bytes]:
    """Ends with the session: nobody goes on watching who was signed out."""
    try:
        async with parts.live.watch() as queue:
            while True:
                try:
                    async with asyncio.timeout(_STILL_S):
                        message = await queue.get()
                except TimeoutError:
                    message = b": still here\n\n"
                if message is None or await request.is_disconnected():
                    return
                if parts.door.session_of(request, used=False) is None:
                    yield b"event: end\ndata: {}\n\n"
                    return
                yield message
    except Transient as error:
        yield b"event: refused\ndata: " + orjson.dumps({"detail": str(error)}) + b"\n\n"


def _sessions(app: FastAPI, parts: Parts) -> None:
    door, metrics = parts.door, parts.telemetry.metrics

    @app.get("/api/session")
    async def session(request: Request) -> Response:
        response = Response(media_type="application/json")
        told = _told(request.state.session) | {"csrf": door.token(request, response)}
        return with_body(response, told)

    @app.post("/api/session")
    async def sign_in(request: Request, sent: SignIn) -> Response:
        response = Response(media_type="application/json")
        try:
            opened = await door.sign_in(request, response, sent.name, sent.password)
        except HTTPException as error:
            metrics.add("weir_console_sign_ins", 1, "locked" if error.status_code == 429 else "wrong")
            raise
        metrics.add("weir_console_sign_ins", 1, "right")
        await _noted(parts, opened, "console.sign_in")
        return with_body(response, _told(opened) | {"csrf": door.csrf_for(response)})

    @app.post("/api/session/end")
    async def sign_out(request: Request) -> Response:
        response = Response(status_code=204)
        await _noted(parts, request.state.session, "console.sign_out")
        door.sign_out(request, response)
        return response

    @app.post("/api/session/password")
    async def password(request: Request, sent: NewPassword) -> Response:
        response = Response(media_type="application/json")
        opened = await door.change_password(request, response, sent.old, sent.new)
        await _noted(parts, opened, "console.password")
        return with_body(response, _told(opened) | {"csrf": door.csrf_for(response)})

    @app.get("/api/users")
    async def users() -> Response:
        found = sorted(door.users.all().values(), key=lambda user: user.name)
        return answer({"users": [{"name": u.name, "role": u.role, "changed_ms": u.changed_ms} for u in found]})


def _views(app: FastAPI, parts: Parts) -> None:
    @app.get("/api/quality")
    async def quality() -> Response:
        report = await parts.lookups.quality()
        moves = [move for move in parts.models.told()["entries"] if move["move"] != "note" or move["evidence"]]
        return answer({"report": report, "alerts": parts.alerts.told(), "moves": moves[:50]})

    @app.get("/api/models")
    async def models() -> Response:
        return answer(parts.models.told())

    @app.get("/api/policies")
    async def policies() -> Response:
        return answer(parts.policies.told())

    @app.get("/api/policies/{version}")
    async def policy(version: str) -> Response:
        text = parts.policies.text(version)
        if text is None:
            raise HTTPException(404, f"policy {version[:100]}: never released here, or long ago; see weir policy list")
        return answer({"policy_version": version, "text": text})

    @app.get("/api/events/{event_id:path}")
    async def event(event_id: str, customer: Annotated[str | None, Query(max_length=512)] = None) -> Response:
        found = await parts.lookups.event(event_id[:512], customer)
        if not found:
            raise HTTPException(
                404,
                "neither accepted nor refused, as far as the log still reaches; is the id right, has ingestion no lag?",
            )
        return answer({"event_id": event_id, "events": found})


async def _noted(parts: Parts, session: Session, action: str) -> None:
    """In the audit trail, if the log takes it: a broker that is away keeps nobody from looking why."""
    try:
        async with asyncio.timeout(_NOTE_S):
            await parts.reviews.note(session, action, f"user:{session.name}", {})
    except (Transient, TimeoutError) as error:
        logging.warning("%s of %s is not in the audit trail: %s", action, session.name, error)


def _told(session: Session | None) -> dict[str, Any]:
    if session is None:
        return {"user": None}
    may = sorted(f"{method} {path}" for (method, path), roles in ACCESS.items() if roles and session.role in roles)
    return {"user": {"name": session.name, "role": session.role, "may": may}}


def _file(request: Request, asset: Asset) -> Response:
    headers = {"etag": asset.tag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == asset.tag:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers, media_type=asset.media_type)
