"""Who comes in: every request passes here before its route, whatever the route is."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from services.console import passwords
from services.console.access import ACCESS, EVERYBODY
from services.console.lockout import Lockout
from services.console.sessions import ID_BYTES, Session, Sessions, csrf_of
from services.console.users import User, Users
from services.mesh.ports import Clock

CSRF_HEADER: Final = "x-weir-csrf"
_VISITOR: Final = "v."  # a cookie that nobody has signed in with yet
_HASHING_MAX: Final = 2  # 32 MB and a core each


class Doorkeeper:
    """Cookies, sessions, roles, and the tokens that tell our page from any other."""

    def __init__(self, users: Users, clock: Clock, random_bytes: Callable[[int], bytes], *, is_secure: bool) -> None:
        self.users = users
        self.sessions = Sessions()
        self._lockout = Lockout()
        self._clock, self._random = clock, random_bytes
        self._secret = random_bytes(32)
        self._is_secure = is_secure
        # Browsers keep a name with this prefix to itself: no other host of the domain can set it.
        self.cookie = "__Host-weir" if is_secure else "weir"
        self._hashing = asyncio.Semaphore(_HASHING_MAX)

    async def guard(self, request: Request) -> None:
        """Let the request in or raise: 401 nobody, 403 not this one. Deny is the default."""
        route = request.scope["route"]
        assert isinstance(route, APIRoute)
        session = self.session_of(request)
        request.state.session = session
        allowed = ACCESS.get((request.method, route.path), frozenset())
        if allowed is not EVERYBODY:
            if session is None:
                raise HTTPException(401, "sign in first; a session ends when it was long unused")
            if session.role not in allowed:
                raise HTTPException(
                    403, f"your role is {session.role}: this needs {' or '.join(sorted(allowed)) or 'nobody'}"
                )
        if request.method != "GET":
            self._require_our_page(request)

    def session_of(self, request: Request, *, used: bool = True) -> Session | None:
        """Whose request it is. ``used``: a person has done something."""
        cookie = request.cookies.get(self.cookie, "")
        if not cookie or cookie.startswith(_VISITOR):
            return None
        return self.sessions.find(cookie, self.users.all(), self._clock.monotonic_s(), used=used)

    def token(self, request: Request, response: Response) -> str:
        """What our page sends with every POST; a visitor without a cookie is given one."""
        cookie = request.cookies.get(self.cookie, "")
        is_visitor = cookie.startswith(_VISITOR) and len(cookie) < 200
        if not is_visitor and self.session_of(request, used=False) is None:
            cookie = _VISITOR + self._random(ID_BYTES).hex()
            self._set_cookie(response, cookie)
        return csrf_of(self._secret, cookie)

    async def sign_in(self, request: Request, response: Response, name: str, password: str) -> Session:
        """Open a session under a new id, or raise: 401 wrong, 429 too many wrong ones."""
        address = request.client.host if request.client else ""
        wait_s = self._lockout.wait_s(name, address, self._clock.monotonic_s())
        if wait_s:
            raise HTTPException(
                429, f"too many wrong passwords: try again in {wait_s:.0f} s", {"retry-after": f"{wait_s:.0f}"}
            )
        user = self.users.all().get(name)
        stored = user.password if user is not None else passwords.NOBODY
        is_right = await self._checked(password, stored)
        if user is None or not is_right:
            self._lockout.failed(name, address, self._clock.monotonic_s())
            raise HTTPException(401, "user or password is wrong")
        self._lockout.succeeded(name)
        return self._open(request, response, user)

    async def change_password(self, request: Request, response: Response, old: str, new: str) -> Session:
        """Set a new password; ends every session of that user but a new one for this page."""
        session: Session = request.state.session
        user = self.users.all()[session.name]
        address = request.client.host if request.client else ""
        if wait_s := self._lockout.wait_s(user.name, address, self._clock.monotonic_s()):
            raise HTTPException(429, f"too many wrong passwords: try again in {wait_s:.0f} s")
        if not await self._checked(old, user.password):
            self._lockout.failed(user.name, address, self._clock.monotonic_s())
            raise HTTPException(403, "the present password is wrong")
        if flaw := passwords.flaw_of(new, user.name):
            raise HTTPException(422, flaw)
        async with self._hashing:
            stored = await asyncio.to_thread(passwords.stored_form, new, self._random(passwords.SALT_BYTES))
        # The file's clock counts in milliseconds: two changes never look the same.
        changed = replace(user, password=stored, changed_ms=max(self._clock.now_ms(), user.changed_ms + 1))
        self.users.put(changed, new=False)
        self.sessions.close_all_of(user.name)
        return self._open(request, response, changed)

    def sign_out(self, request: Request, response: Response) -> None:
        """End this session."""
        self.sessions.close(request.cookies.get(self.cookie, ""))
        response.delete_cookie(self.cookie, path="/", secure=self._is_secure, httponly=True, samesite="strict")

    async def _checked(self, password: str, stored: str) -> bool:
        async with self._hashing:
            return await asyncio.to_thread(passwords.is_right, password, stored)

    def _open(self, request: Request, response: Response, user: User) -> Session:
        self.sessions.close(request.cookies.get(self.cookie, ""))
        session_id = self._random(ID_BYTES).hex()
        self._set_cookie(response, session_id)
        return self.sessions.open(session_id, user, self._clock.monotonic_s())

    def csrf_for(self, response: Response) -> str:
        """The token that belongs to the cookie which ``response`` sets."""
        cookie = response.headers["set-cookie"].partition("=")[2].partition(";")[0]
        return csrf_of(self._secret, cookie)

    def _set_cookie(self, response: Response, value: str) -> None:
        # No expiry: gone with the browser; the server ends it sooner.
        response.set_cookie(self.cookie, value, path="/", secure=self._is_secure, httponly=True, samesite="strict")

    def _require_our_page(self, request: Request) -> None:
        """A form on another site can make a browser send the cookie (were it not Strict), never this header."""
        cookie = request.cookies.get(self.cookie, "")
        given = request.headers.get(CSRF_HEADER, "")
        if not cookie or not _equal(given, csrf_of(self._secret, cookie)):
            raise HTTPException(403, "the page is out of date or not ours: load it again")
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise HTTPException(403, "sent by another site")


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())
