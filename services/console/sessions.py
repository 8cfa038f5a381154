"""Who is signed in: random ids that the browser keeps in a cookie, what they stand for here, and for how long. Pure.

In memory: after a restart people sign in again. A session ends when it was idle, when it is old, when its user is
removed or gets another password, and when its owner says so. What a browser is given before signing in is stateless, so
that nobody fills the memory by asking.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from services.console.access import Role
from services.console.users import User

IDLE_S_MAX: Final = 8 * 3_600.0  # a working day with the page in a background tab: the live stream does not count
AGE_S_MAX: Final = 16 * 3_600.0
SESSIONS_MAX: Final = 1_000
ID_BYTES: Final = 32


@dataclass(slots=True)
class Session:
    """Somebody signed in."""

    name: str
    role: Role
    password_ms: int  # when the password was set that opened it
    began_s: float
    used_s: float


class Sessions:
    """All of them; the longest unused one gives way when there are too many."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def open(self, session_id: str, user: User, now_s: float) -> Session:
        """``session_id``: random, and sent to nobody before."""
        session = Session(user.name, user.role, user.changed_ms, now_s, now_s)
        self._sessions[_key(session_id)] = session
        while len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return session

    def find(self, session_id: str, user_of: Mapping[str, User], now_s: float, *, used: bool = True) -> Session | None:
        """The session of that id, if it holds; its role is the user's present one. ``used``: a person is there."""
        key = _key(session_id)
        session = self._sessions.get(key)
        if session is None:
            return None
        user = user_of.get(session.name)
        if (
            user is None
            or user.changed_ms != session.password_ms
            or now_s - session.used_s > IDLE_S_MAX
            or now_s - session.began_s > AGE_S_MAX
        ):
            del self._sessions[key]
            return None
        session.role = user.role
        if used:
            session.used_s = now_s
            self._sessions.move_to_end(key)
        return session

    def close(self, session_id: str) -> None:
        """Sign out."""
        self._sessions.pop(_key(session_id), None)

    def close_all_of(self, name: str) -> None:
        """Sign ``name`` out everywhere."""
        for key in [key for key, session in self._sessions.items() if session.name == name]:
            del self._sessions[key]

    def __len__(self) -> int:
        return len(self._sessions)


def csrf_of(secret: bytes, cookie: str) -> str:
    """What a page must send beside the cookie: other sites can make a browser send the one, and never learn this."""
    return hmac.new(secret, cookie.encode(), hashlib.sha256).hexdigest()


def _key(session_id: str) -> str:
    """A digest, so that looking one up takes no time that tells how much of it was right."""
    return hashlib.sha256(session_id.encode()).hexdigest()
