"""Letting go of an aiokafka client, whatever it says to that.

``stop()`` of aiokafka 0.14 raises CancelledError, as if its caller had been cancelled, when tasks that ``start()`` made
have never run, or when a failed fetch waits to be repeated; and it may wait for a broker that is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

_CLOSE_S_MAX: Final = 2.0
_CANCEL_S_MAX: Final = 0.1


async def let_go(stop: Callable[[], Coroutine[Any, Any, None]], close_s_max: float = _CLOSE_S_MAX) -> None:
    """Call a client's ``stop`` or ``close`` in a task of its own, whose end is no news to us, for ``close_s_max``."""
    await asyncio.sleep(0)
    stopping = asyncio.create_task(stop())
    await asyncio.wait([stopping], timeout=close_s_max)
    stopping.cancel()
    await asyncio.wait([stopping], timeout=_CANCEL_S_MAX)  # it may take no notice of that either
    if stopping.done() and not stopping.cancelled():
        stopping.exception()  # of a connection that is given up: looked at, and no news
