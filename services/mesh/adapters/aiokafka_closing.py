"""Letting go of an aiokafka client, whatever it says to that.

``stop()`` of aiokafka 0.14 raises CancelledError, as if its caller had been cancelled, when tasks that ``start()`` made
have never run, or when a failed fetch waits to be repeated; and it may wait for a broker that is gone.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

_CLOSE_S_MAX: Final = 2.0
_CANCEL_S_MAX: Final = 0.1


async def let_go(client: Any, close_s_max: float = _CLOSE_S_MAX) -> None:
    """Stop a consumer or producer: in a task of its own, whose end is no news to us, for as long as ``close_s_max``."""
    await asyncio.sleep(0)
    stopping = asyncio.create_task(client.stop())
    await asyncio.wait([stopping], timeout=close_s_max)
    stopping.cancel()
    await asyncio.wait([stopping], timeout=_CANCEL_S_MAX)  # it may take no notice of that either
    if stopping.done() and not stopping.cancelled():
        stopping.exception()  # of a connection that is given up: looked at, and no news
