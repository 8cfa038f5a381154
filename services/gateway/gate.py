"""Around every request: an id, a place among those at work, the clock, headers that browsers obey, a count. ASGI."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from services.gateway.limits import AtWork
from services.gateway.problem import MEDIA_TYPE, Problem
from services.mesh.event_fields import EVENT_BYTES_MAX
from services.mesh.ports import Clock
from services.mesh.telemetry import StageTelemetry

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# What the metric calls a path; a closed set, so that nobody can fill the metrics by asking for nonsense.
ROUTES: Final = {
    "/v1/events": "events",
    "/v1/events:batch": "batch",
    "/v1/decide": "decide",
    "/v1/outcomes": "outcomes",
    "/docs": "docs",
    "/openapi.json": "docs",
}
_DECISIONS: Final = "/v1/decisions/"
_OTHER: Final = "other"

# Nothing here is to be kept by caches, guessed at, framed, or run; the documentation has no script either.
SAFE_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Gate:
    """Wraps the application."""

    def __init__(
        self, app: App, at_work: AtWork, telemetry: StageTelemetry, clock: Clock, new_id: Callable[[], str]
    ) -> None:
        self._app, self._at_work = app, at_work
        self._telemetry, self._clock, self._new_id = telemetry, clock, new_id

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request, or the application's life."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s, metrics = self._clock.monotonic_s(), self._telemetry.metrics
        request_id = _given_id(scope) or self._new_id().encode()
        status, unread = 500, _has_long_body(scope)

        async def take() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and bool(message.get("more_body"))
            return message

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *SAFE_HEADERS, (b"x-request-id", request_id)]
                if unread and not any(name == b"connection" for name, _ in message["headers"]):
                    message["headers"].append((b"connection", b"close"))  # nobody waits for the rest of what is refused
            await send(message)

        try:
            self._at_work.enter()
        except Problem as problem:
            await _refuse(problem, answer)
        else:
            metrics.set("weir_requests_at_work", self._at_work.count)
            try:
                await self._app(scope, take, answer)
            finally:
                self._at_work.leave()
                metrics.set("weir_requests_at_work", self._at_work.count)
        route = _route(scope["path"])
        metrics.add("weir_requests", 1, f"{route} {status}")
        if route != "decide":  # which waits on purpose
            metrics.observe("weir_request_seconds", self._clock.monotonic_s() - began_s)


def _given_id(scope: Message) -> bytes | None:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given if _REQUEST_ID.fullmatch(given) else None


def _has_long_body(scope: Message) -> bool:
    """Whether it may go on for long after its answer."""
    headers = {name: value for name, value in scope["headers"] if name in (b"content-length", b"transfer-encoding")}
    length = headers.get(b"content-length", b"0")
    return b"transfer-encoding" in headers or not length.isdigit() or int(length[:18]) > EVENT_BYTES_MAX


def _route(path: str) -> str:
    return ROUTES.get(path) or ("decisions" if path.startswith(_DECISIONS) else _OTHER)


async def _refuse(problem: Problem, send: Send) -> None:
    headers = {"content-type": MEDIA_TYPE, **problem.all_headers()}
    packed = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.kind.status, "headers": packed})
    await send({"type": "http.response.body", "body": problem.body()})
