"""Who may do what: roles, and every route with the roles that may use it. Pure.

A route that is not in the table is nobody's: forgetting one closes a door, it does not open one.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Role(StrEnum):
    """What a person is here for."""

    VIEWER = "viewer"  # looks
    ANALYST = "analyst"  # looks, and works the review queue
    RISK = "risk"  # looks, tries policies, sends refused records once more
    SUPERVISOR = "supervisor"  # works the queue, has the second pair of eyes, and does what risk does
    ADMIN = "admin"  # everything


ROLES: Final = tuple(Role)
_ALL: Final = frozenset(Role)
_REVIEWS: Final = frozenset({Role.ANALYST, Role.SUPERVISOR, Role.ADMIN})
_OPERATES: Final = frozenset({Role.RISK, Role.SUPERVISOR, Role.ADMIN})
EVERYBODY: Final = None  # signed in or not

Access = frozenset[Role] | None

ACCESS: Final = MappingProxyType[tuple[str, str], Access](
    {
        ("GET", "/"): EVERYBODY,
        ("GET", "/static/{name:path}"): EVERYBODY,
        ("GET", "/favicon.ico"): EVERYBODY,
        ("GET", "/api/session"): EVERYBODY,
        ("POST", "/api/session"): EVERYBODY,  # signing in
        ("POST", "/api/session/end"): _ALL,
        ("POST", "/api/session/password"): _ALL,
        ("GET", "/api/live"): _ALL,
        ("GET", "/api/quality"): _ALL,
        ("GET", "/api/models"): _ALL,
        ("GET", "/api/policies"): _ALL,
        ("GET", "/api/policies/{version}"): _ALL,
        ("GET", "/api/events/{event_id:path}"): _ALL,
        ("GET", "/api/dead-letters"): _ALL,
        ("GET", "/api/dead-letters/{partition}/{offset}"): _ALL,
        ("POST", "/api/dead-letters/requeue"): _OPERATES,
        ("GET", "/api/backtests"): _ALL,
        ("GET", "/api/backtests/{name}"): _ALL,
        ("POST", "/api/backtests"): _OPERATES,
        ("GET", "/api/reviews"): _REVIEWS,
        ("GET", "/api/reviews/{case_id}"): _REVIEWS,
        ("POST", "/api/reviews/next"): _REVIEWS,
        ("POST", "/api/reviews/{case_id}/claim"): _REVIEWS,
        ("POST", "/api/reviews/{case_id}/release"): _REVIEWS,
        ("POST", "/api/reviews/{case_id}/verdict"): _REVIEWS,
        ("GET", "/api/audit"): frozenset({Role.SUPERVISOR, Role.ADMIN}),
        ("GET", "/api/users"): frozenset({Role.ADMIN}),
    }
)


def may(role: Role, method: str, path: str) -> bool:
    """Whether somebody of ``role`` may use the route."""
    allowed = ACCESS.get((method, path), frozenset())
    return allowed is EVERYBODY or role in allowed


def role_named(text: str) -> Role | None:
    """The role called ``text``; None when there is none."""
    return Role(text) if text in frozenset(Role) else None
