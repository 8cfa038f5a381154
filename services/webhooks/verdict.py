"""What an answer means: taken, refused for good, not now, or never again. Pure.

| answer | meaning |
|---|---|
| 2xx | taken |
| 410 | gone: the subscription stops until somebody changes it; nothing is given up |
| 408, 425, 429, 5xx, no answer | failed: again later; with ``Retry-After`` the whole subscription waits that long |
| 3xx | failed: redirects are not followed, and a wrong URL is no decision's fault |
| any other | refused: this decision will not be taken however often it is sent |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

_PASSING: Final = frozenset({408, 425, 429})
_GONE: Final = 410
_SHOWN_CHARACTERS_MAX: Final = 200


class Verdict(Enum):
    """See the table above."""

    TAKEN = "taken"
    FAILED = "failed"
    REFUSED = "refused"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, or why nothing did."""

    status: int = 0  # 0: no answer
    text: str = ""  # the beginning of its body, or what went wrong
    retry_after_s: float | None = None
    took_s: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """What it means."""
        if 200 <= self.status < 300:
            return Verdict.TAKEN
        if self.status == _GONE:
            return Verdict.GONE
        if 400 <= self.status < 500 and self.status not in _PASSING:
            return Verdict.REFUSED
        return Verdict.FAILED

    def __str__(self) -> str:
        said = "".join(sign if sign.isprintable() else " " for sign in self.text[:_SHOWN_CHARACTERS_MAX]).strip()
        return f"{self.status}{f': {said}' if said else ''}" if self.status else f"no answer: {said}"
