"""One request: to an address that was looked at, within one limit of time, with an answer of bounded length.

httpcore, and not what is built on it: it follows no redirects, takes no proxy from the environment, and lets us look at
the address that it is about to connect to, which is the only check that a name which resolves differently cannot pass.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any, Final

import httpcore

from services.webhooks.address import refusal_of, target_of
from services.webhooks.schedule import retry_after_s
from services.webhooks.signature import signed
from services.webhooks.subscription import Subscription
from services.webhooks.tls import refusal_in
from services.webhooks.verdict import Answer

USER_AGENT: Final = "weir-webhooks/1"
_ANSWER_BYTES_MAX: Final = 65_536  # of which the connection is worth keeping; nobody reads it
_SHOWN_BYTES_MAX: Final = 1_024
_IDLE_S: Final = 30.0
_FAILURES: Final = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    TimeoutError,
    OSError,
    UnicodeError,  # of a name that cannot be one
)


class Poster:
    """Connections to one subscription's receiver. Use it in one event loop, and ``close`` it."""

    def __init__(self, subscription: Subscription, timeout_s: float, at_once: int, tls: ssl.SSLContext) -> None:
        self._subscription, self._timeout_s = subscription, timeout_s
        self._target = target_of(subscription.url, private=subscription.private)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=at_once,
            max_keepalive_connections=at_once,
            keepalive_expiry=_IDLE_S,
            network_backend=_LookedAt(private=subscription.private),
        )

    async def post(self, message_id: str, body: bytes) -> Answer:
        """Send once; an answer in any case."""
        began_s, now_s = time.monotonic(), time.time()
        keys = self._subscription.keys(round(now_s * 1_000))
        headers = {
            "host": self._target.host_header,
            "content-type": "application/json",
            "content-length": str(len(body)),
            "user-agent": USER_AGENT,
            **signed(keys, message_id, int(now_s), body),
        }
        try:
            async with asyncio.timeout(self._timeout_s):
                status, text, retry_after = await self._send(list(headers.items()), body)
        except _FAILURES as error:
            told = f"none within {self._timeout_s:g} s" if type(error) is TimeoutError else str(error) or repr(error)
            return Answer(text=refusal_in(error) or told, took_s=time.monotonic() - began_s)
        return Answer(
            status=status,
            text=text,
            retry_after_s=retry_after_s(retry_after, now_s),
            took_s=time.monotonic() - began_s,
        )

    async def close(self) -> None:
        """Drop the connections."""
        await self._pool.aclose()

    async def _send(self, headers: list[tuple[bytes | str, bytes | str]], body: bytes) -> tuple[int, str, str | None]:
        target = self._target
        url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        async with self._pool.stream("POST", url, headers=headers, content=body) as response:
            retry_after = next((v.decode("latin-1") for n, v in response.headers if n.lower() == b"retry-after"), None)
            beginning = bytearray()
            async for piece in response.aiter_stream():
                beginning += piece
                if len(beginning) > _ANSWER_BYTES_MAX:
                    break  # the connection is dropped with the rest
            return response.status, bytes(beginning[:_SHOWN_BYTES_MAX]).decode(errors="replace"), retry_after


class _LookedAt(httpcore.AsyncNetworkBackend):
    """Resolves, looks at each address, connects to one that is allowed. TLS still checks the name."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in dict.fromkeys(str(entry[4][0]) for entry in found):
            if refused := refusal_of(address, private=self._private):
                failure = httpcore.ConnectError(f"{host}: {refused}")
                continue
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError as error:
                failure = httpcore.ConnectError(f"{address}:{port}: {error}")
        raise failure

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)
