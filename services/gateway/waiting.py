"""Who waits for which event. Pure: a waiter is a function that is called once with what has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.gateway.recent import Key

Wake = Callable[[Any], None]


class Waiters:
    """By key; several may wait for one."""

    def __init__(self) -> None:
        self._waiting: dict[Key, list[Wake]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def wants(self, key: Key) -> bool:
        """Whether somebody waits for ``key``: only then is its record worth decoding."""
        return key in self._waiting

    def add(self, key: Key, wake: Wake) -> None:
        """Wait, until ``remove``."""
        self._waiting.setdefault(key, []).append(wake)

    def remove(self, key: Key, wake: Wake) -> None:
        """Wait no longer."""
        waiting = self._waiting.get(key, [])
        if wake in waiting:
            waiting.remove(wake)
        if not waiting:
            self._waiting.pop(key, None)

    def tell(self, key: Key, said: Any) -> None:
        """Everybody who waits for ``key`` hears ``said``."""
        for wake in tuple(self._waiting.get(key, ())):
            wake(said)

    def tell_all(self, said: Any) -> None:
        """Everybody hears ``said``."""
        for key in tuple(self._waiting):
            self.tell(key, said)
