"""What surrounds every answer: security headers, limits on what is sent to us, problems as JSON. Pure.

The Content-Security-Policy lets a browser run and load only what this server sends, and forbids turning text into
markup at all (trusted types): a script in an event's field has no way to run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import orjson

BODY_BYTES_MAX: Final = 524_288  # a policy to try
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
TRANSPORT: Final = {"strict-transport-security": "max-age=31536000; includeSubDomains"}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Guarded:
    """The application with headers on everything that it answers, and with nothing larger than the limit let in."""

    def __init__(self, app: App, *, is_secure: bool) -> None:
        self._app = app
        headers = HEADERS | (TRANSPORT if is_secure else {})
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = {name.lower() for name, _ in message.get("headers", ())}
                more = [] if b"cache-control" in told else [(b"cache-control", b"no-store")]
                message["headers"] = [*message.get("headers", ()), *self._headers, *more]
            await send(message)

        length = next((value for name, value in scope["headers"] if name == b"content-length"), None)
        chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
        if chunked or (length is not None and (not length.isdigit() or int(length) > BODY_BYTES_MAX)):
            await _refuse(sent, 413, f"a request may have {BODY_BYTES_MAX:,} bytes, and has to say how many it has")
            return
        await self._app(scope, receive, sent)


async def _refuse(send: Send, status: int, why: str) -> None:
    body = problem_bytes(status, why)
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def problem_bytes(status: int, why: str, **more: Any) -> bytes:
    """RFC 9457: what went wrong, for machines and people."""
    return orjson.dumps({"type": "about:blank", "status": status, "detail": why, **more})
