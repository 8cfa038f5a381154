"""One look at Redis: whether it answers, and how full it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.mesh.errors import Transient

_WAIT_S = 1.0


class RedisLook:
    """Asks the server at ``url``; ``reviews`` counts the cases that lie there."""

    def __init__(self, url: str, reviews: Callable[[], dict[str, int]]) -> None:
        self._reviews = reviews
        self._client: Any = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=_WAIT_S,
            socket_connect_timeout=_WAIT_S,
            max_connections=2,
            retry=Retry(NoBackoff(), 0),
            client_name="weir.console",
        )

    async def look(self) -> dict[str, Any]:
        """Memory, keys, and cases by shelf. Raises Transient when it does not answer in time."""
        try:
            found = await self._client.info("memory")
            keys = await self._client.dbsize()
            reviews = await asyncio.to_thread(self._reviews)
        except (RedisError, OSError, TimeoutError) as error:
            raise Transient(f"Redis does not answer: {error or type(error).__name__}") from error
        return {
            "used_bytes": int(found["used_memory"]),
            "limit_bytes": int(found["maxmemory"]) or int(found["total_system_memory"]),
            "keys": int(keys),
            "reviews": reviews,
        }

    async def close(self) -> None:
        """Drop the connections."""
        await self._client.aclose()
