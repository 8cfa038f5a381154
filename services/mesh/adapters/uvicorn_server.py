"""uvicorn without its signal handlers, for services that have to do something first when they are told to stop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import uvicorn


class Server(uvicorn.Server):
    """Ends when ``should_exit`` is set. Its own handlers would raise the signal once more when it is done."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: signals are the caller's."""
        yield
