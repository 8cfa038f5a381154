"""Whatever a client says to being closed, whoever lets it go goes on."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.mesh.adapters.aiokafka_closing import let_go

PATIENCE_S = 0.05
NEVER_S = 20.0  # a let_go that waits for its client fails then

Closing = Callable[["Client"], Awaitable[None]]


class Client:
    """Closes as it is told to, and keeps what became of that."""

    def __init__(self, closing: Closing) -> None:
        self._closing = closing
        self.heard: list[str] = []
        self.forever: asyncio.Future[None] | None = None

    async def stop(self) -> None:
        self.forever = asyncio.get_running_loop().create_future()
        self.heard.append("asked")
        await self._closing(self)
        self.heard.append("closed")


async def at_once(client: Client) -> None:
    await asyncio.sleep(0)


async def as_if_cancelled(client: Client) -> None:
    raise asyncio.CancelledError


async def in_error(client: Client) -> None:
    raise ConnectionError("the broker is gone")


async def never(client: Client) -> None:
    assert client.forever is not None
    try:
        await client.forever
    except asyncio.CancelledError:
        client.heard.append("cancelled")
        raise


async def never_but_in_error(client: Client) -> None:
    try:
        await never(client)
    except asyncio.CancelledError:
        raise ConnectionError("the broker is gone") from None


async def never_whatever_it_is_told(client: Client) -> None:
    assert client.forever is not None
    try:
        await asyncio.shield(client.forever)
    except asyncio.CancelledError:
        client.heard.append("cancelled")
    await client.forever  # ends when the loop does


@pytest.mark.parametrize(
    ("closing", "heard"),
    [
        (at_once, ["asked", "closed"]),
        (as_if_cancelled, ["asked"]),
        (in_error, ["asked"]),
        (never, ["asked", "cancelled"]),
        (never_but_in_error, ["asked", "cancelled"]),
        (never_whatever_it_is_told, ["asked", "cancelled"]),
    ],
)
def test_nothing_of_a_closing_client_reaches_whoever_lets_it_go(closing: Closing, heard: list[str]) -> None:
    client, complaints = Client(closing), list[dict[str, Any]]()

    async def caller() -> list[str]:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        await asyncio.wait_for(let_go(client.stop, PATIENCE_S), NEVER_S)
        gc.collect()  # asyncio complains of an error that nobody has looked at when its task is gone
        return list(client.heard)

    assert asyncio.run(caller()) == heard
    assert complaints == []


def test_who_is_cancelled_while_letting_go_is_cancelled() -> None:
    client = Client(never)

    async def caller() -> None:
        letting_go = asyncio.create_task(let_go(client.stop, NEVER_S))
        await asyncio.sleep(PATIENCE_S)
        letting_go.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(letting_go, NEVER_S)

    asyncio.run(caller())
