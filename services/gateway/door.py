"""Who asks, and what he brings: tokens, media types, bytes that come in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect

from services.gateway.limits import Rates, check_bytes
from services.gateway.problem import Kind, Problem
from services.mesh.errors import Fatal
from services.mesh.ports import Clock
from services.mesh.tokens import Scope, Token, TokenBook

BODY_S_MAX: Final = 5.0  # 1 MB over the slowest line that anybody pays with; who drips bytes is cut off
_MEDIA: Final = "application/json"


class Door:
    """Lets in who may come in."""

    def __init__(self, book: Callable[[], TokenBook], rates: Rates, clock: Clock) -> None:
        self._book, self._rates, self._clock = book, rates, clock

    def holder(self, request: Request, *scopes: Scope) -> Token:
        """The token that asks, which has one of ``scopes``. Raises Problem."""
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        try:
            token = self._book().holder_of(secret.strip(), self._clock.now_ms()) if kind.lower() == "bearer" else None
        except Fatal as fatal:
            raise Problem(Kind.AWAY, f"no token can be checked: {fatal}", retry_after_s=1) from fatal
        if token is None:
            why = "the token is unknown, revoked or expired" if secret else "no token was sent"
            detail = f"{why}; send `Authorization: Bearer <token>`, made by `weir tokens create`"
            raise Problem(Kind.UNAUTHENTICATED, detail, headers={"www-authenticate": 'Bearer realm="weir"'})
        if token.scopes.isdisjoint(scopes):
            wanted = " or ".join(scopes)
            detail = f"token {token.name} may do {', '.join(sorted(token.scopes))}; this needs {wanted}"
            challenge = f'Bearer realm="weir", error="insufficient_scope", scope="{scopes[0]}"'
            raise Problem(Kind.FORBIDDEN, detail, headers={"www-authenticate": challenge})
        return token

    def check_rate(self, token: Token, records: int) -> None:
        """Raises Problem when the token sends too fast."""
        self._rates.check(token.name, records, self._clock.monotonic_s())

    async def body(self, request: Request, bytes_max: int) -> bytes:
        """The whole body, of at most ``bytes_max``; never more than that is held. Raises Problem."""
        media = request.headers.get("content-type", _MEDIA).partition(";")[0].strip().lower()
        if media != _MEDIA or "content-encoding" in request.headers:
            coded = request.headers.get("content-encoding", "")
            given = f"content-encoding {coded}" if coded else f"content-type {media[:80]!r}"
            raise Problem(Kind.MEDIA, f"{given} is not read here; send {_MEDIA}, not compressed")
        told = request.headers.get("content-length", "")
        if told.isascii() and told.isdigit():
            check_bytes(int(told[:18]), bytes_max)
        try:
            async with asyncio.timeout(BODY_S_MAX):
                parts, size = [], 0
                async for part in request.stream():
                    size += len(part)
                    check_bytes(size, bytes_max)
                    parts.append(part)
        except ClientDisconnect:
            raise Problem(Kind.SLOW, "the body ended early; nothing was taken") from None  # nobody hears it
        except TimeoutError:
            detail = f"the body was not there after {BODY_S_MAX:g} s; send it in one go"
            raise Problem(Kind.SLOW, detail, headers={"connection": "close"}) from None
        return b"".join(parts)
