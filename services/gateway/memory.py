"""Which body each identity was posted with lately. Pure.

It tells a sender at once what ingestion would say a moment later. It never keeps a record from being appended: a repeat
is ingestion's to drop, and what was refused once (a clock that was ahead, say) may be taken the second time.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

IDENTITIES_MAX: Final = 100_000  # 200 bytes each


class Memory:
    """Bodies by identity, of one raw topic; past ``identities_max`` the oldest are forgotten."""

    def __init__(self, identities_max: int = IDENTITIES_MAX) -> None:
        self._bodies: OrderedDict[bytes, int] = OrderedDict()
        self._identities_max = identities_max

    def differs(self, identity: bytes, body_hash: int) -> bool:
        """Whether another body was posted under that identity."""
        return self._bodies.get(identity, body_hash) != body_hash

    def knows(self, identity: bytes) -> bool:
        """Whether it was posted here."""
        return identity in self._bodies

    def note(self, identity: bytes, body_hash: int) -> None:
        """It is about to be appended."""
        self._bodies[identity] = body_hash
        self._bodies.move_to_end(identity)
        if len(self._bodies) > self._identities_max:
            self._bodies.popitem(last=False)

    def forget(self, identity: bytes) -> None:
        """Its record never left this process."""
        self._bodies.pop(identity, None)
