"""How much, how deep, how fast, how many: each limit as a small thing that says no. Pure: time is an argument."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from typing import Final

from services.gateway.problem import Kind, Problem
from services.mesh.event_fields import EVENT_BYTES_MAX

DEPTH_MAX: Final = 4  # an array of flat records has 2; a parser that recurses dies near 1,000
HOLDERS_MAX: Final = 1_000  # as many as there can be tokens
RETRY_BUSY_S: Final = 1

# Strings are matched whole, so that a bracket in one is not seen. Possessive: a quote that is never closed is passed
# once, not once for every quote before it.
_TOKENS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def check_bytes(size: int, limit: int = EVENT_BYTES_MAX) -> None:
    """Raises Problem when a body of ``size`` bytes is more than is read."""
    if size > limit:
        raise Problem(Kind.TOO_LARGE, f"the body has {size} bytes or more; at most {limit} are read here", "too_large")


def check_depth(body: bytes, limit: int = DEPTH_MAX) -> None:
    """Raises Problem when brackets stand deeper than ``limit`` in each other."""
    if body.count(b"[") + body.count(b"{") <= limit:
        return
    depth = 0
    for match in _TOKENS.finditer(body):
        first = body[match.start()]
        if first in b"[{":
            depth += 1
            if depth > limit:
                at = match.start()
                detail = f"{depth} levels at byte {at}; records are flat: at most {limit} are read"
                raise Problem(Kind.MALFORMED, detail, "malformed_json")
        elif first in b"]}":
            depth -= 1


class TokenBucket:
    """``rate`` a second in the long run, ``burst`` at once."""

    __slots__ = ("_at_s", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at_s = burst, now_s

    def take(self, cost: float, now_s: float) -> float:
        """0 when ``cost`` was there and is taken; otherwise in how many seconds it will be.

        What costs more than the whole burst is let through from a full bucket, and paid off afterwards.
        """
        self._left = min(self._burst, self._left + max(0.0, now_s - self._at_s) * self._rate)
        self._at_s = now_s
        needed = min(cost, self._burst)
        if self._left >= needed:
            self._left -= cost
            return 0.0
        return (needed - self._left) / self._rate


class Rates:
    """A bucket for each token."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def check(self, holder: str, cost: int, now_s: float) -> None:
        """Raises Problem when ``holder`` is too fast."""
        bucket = self._buckets.get(holder)
        if bucket is None:
            bucket = self._buckets[holder] = TokenBucket(self._rate, self._burst, now_s)
            if len(self._buckets) > HOLDERS_MAX:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(holder)
        wait_s = bucket.take(cost, now_s)
        if wait_s:
            detail = f"token {holder}: more than {self._rate:g} records a second; wait, or ask for a higher limit"
            raise Problem(Kind.TOO_FAST, detail, retry_after_s=math.ceil(wait_s))


class AtWork:
    """How many requests are being answered."""

    def __init__(self, limit: int) -> None:
        self.limit, self.count = limit, 0

    def enter(self) -> None:
        """One more. Raises Problem when there are as many as there may be."""
        if self.count >= self.limit:
            detail = f"{self.limit} requests are being answered already; send this one again in a moment"
            raise Problem(Kind.BUSY, detail, retry_after_s=RETRY_BUSY_S)
        self.count += 1

    def leave(self) -> None:
        """One less."""
        self.count -= 1
        assert self.count >= 0
