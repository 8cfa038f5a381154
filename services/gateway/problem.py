"""Everything that the gateway can refuse, as problem+json (RFC 9457). Pure.

``type`` is a path of this server, where the documentation of that kind stands; ``code`` is ingestion's own where
ingestion would refuse the record too (``services/mesh/errors.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import orjson

from services.mesh.errors import Poison, RejectCode

MEDIA_TYPE: Final = "application/problem+json"


class Kind(Enum):
    """(name in ``type``, HTTP status, title)."""

    MALFORMED = ("malformed", 400, "The body is not what this path reads")
    PARAMETER = ("parameter", 400, "A parameter is wrong")
    UNAUTHENTICATED = ("unauthenticated", 401, "No valid token")
    FORBIDDEN = ("forbidden", 403, "The token has no such scope")
    NOT_FOUND = ("not-found", 404, "There is nothing here")
    UNKNOWN_EVENT = ("unknown-event", 404, "No such event is known")
    NO_DECISION = ("no-decision", 404, "The event was refused; there is no decision")
    METHOD = ("method", 405, "The path does not take this method")
    SLOW = ("slow", 408, "The body came too slowly")
    CONFLICT = ("conflict", 409, "The identity is taken by another body")
    TOO_LARGE = ("too-large", 413, "The body is too large")
    MEDIA = ("media-type", 415, "The body is of another type")
    INVALID = ("invalid", 422, "A field is wrong")
    REFUSED = ("refused", 422, "The mesh has refused the event")
    TOO_FAST = ("too-fast", 429, "The token sends faster than its limit")
    BUG = ("bug", 500, "The gateway has failed")
    BUSY = ("busy", 503, "Too many requests at once")
    AWAY = ("away", 503, "The log does not answer")
    BEHIND = ("behind", 503, "The index is behind")

    @property
    def path(self) -> str:
        """Names the kind, in ``type`` and in the documentation."""
        return str(self.value[0])

    @property
    def status(self) -> int:
        """HTTP status."""
        return int(self.value[1])

    @property
    def title(self) -> str:
        """One line that is the same for all problems of the kind."""
        return str(self.value[2])


class Problem(Exception):
    """One refusal: what is wrong, where, and what helps."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        code: str = "",
        *,
        field: str = "",
        retry_after_s: int | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.code, self.field = kind, detail, code, field
        self.retry_after_s = retry_after_s
        self.extra = dict(extra or {})  # further members of the document
        self.headers = dict(headers or {})

    def members(self) -> dict[str, Any]:
        """The document."""
        kind = self.kind
        told = {"type": f"/docs#{kind.path}", "title": kind.title, "status": kind.status, "detail": self.detail}
        optional = {"code": self.code, "field": self.field}
        return told | {name: value for name, value in optional.items() if value} | self.extra

    def body(self) -> bytes:
        """The document as bytes."""
        return orjson.dumps(self.members())

    def all_headers(self) -> dict[str, str]:
        """Headers of the answer, its length and type left out."""
        retry = {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}
        return retry | self.headers


# Which of ingestion's codes mean that the bytes could not be read at all, and not that a field is wrong.
_UNREAD: Final = {
    RejectCode.TOMBSTONE: Kind.MALFORMED,
    RejectCode.MALFORMED_JSON: Kind.MALFORMED,
    RejectCode.TOO_LARGE: Kind.TOO_LARGE,
}


def problem_of(poison: Poison, place: str = "") -> Problem:
    """What ingestion would refuse a record for, told to its sender beforehand."""
    kind = _UNREAD.get(poison.code, Kind.INVALID)
    detail = f"{place}: {poison}" if place else str(poison)
    return Problem(kind, detail, code=poison.code.value, field=poison.field)
