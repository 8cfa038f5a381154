"""The console's application with everything real that needs no network: doors, users, sessions; the rest is canned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from fastapi.testclient import TestClient

from services.console import passwords
from services.console.access import Role
from services.console.app import Parts, console_app
from services.console.assets import Asset
from services.console.backtests import Backtests
from services.console.doorkeeper import CSRF_HEADER, Doorkeeper
from services.console.journals import Alerts, AuditTrail, Models, Policies
from services.console.users import User, Users
from services.mesh.telemetry import StageTelemetry

PASSWORD = "correct-horse-battery"
# A third of a second for each try is the point of scrypt, and not of most tests: the same with hardly any work.
SALT = b"s" * 16
STORED = f"scrypt$4$8$1${SALT.hex()}${passwords._digest(PASSWORD, SALT, 4, 8, 1).hex()}"


class Clock:
    """Time that stands still until somebody moves it."""

    def __init__(self) -> None:
        self.s = 1_000.0

    def now_ms(self) -> int:
        return 1_800_000_000_000 + int(1_000 * self.s)

    def monotonic_s(self) -> float:
        return self.s

    def sleep_s(self, seconds: float) -> None:
        self.s += seconds


class Canned:
    """Answers everything that routes ask of the mesh."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        async def answered(*given: Any) -> Any:
            self.asked.append((name, given))
            return [{"found": name}] if name in ("event", "listed", "dead_letters") else {"found": name}

        return answered


class Console:
    """One console and its parts."""

    def __init__(self, directory: Path, *, is_secure: bool = False) -> None:
        self.clock, self.mesh = Clock(), Canned()
        self.users = Users(directory / "users.json")
        for role in Role:
            self.users.put(User(name=f"{role}-1", role=role, password=STORED, changed_ms=1), new=True)
        numbers = iter(range(1, 100_000))
        self.door = Doorkeeper(
            self.users,
            self.clock,
            lambda count: next(numbers).to_bytes(8, "big") * (count // 8),
            is_secure=is_secure,
        )
        page = Asset(b"<!doctype html>", "text/html; charset=utf-8", '"1"')
        live = SimpleNamespace(watch=_past, tick=None)
        self.telemetry = StageTelemetry("console", self.clock)
        self.app = console_app(
            Parts(
                door=self.door,
                live=cast(Any, live),
                models=Models(),
                policies=Policies(),
                alerts=Alerts(),
                trail=AuditTrail(),
                reviews=cast(Any, self.mesh),
                lookups=cast(Any, self.mesh),
                backtests=Backtests(directory / "backtests", None),
                assets={"index.html": page, "icon.svg": page, "main.js": page},
                telemetry=self.telemetry,
                is_secure=is_secure,
            )
        )
        self.base_url = "https://console.example" if is_secure else "http://console.example"

    def client(self) -> TestClient:
        """A browser without a past."""
        return TestClient(cast(Any, self.app), base_url=self.base_url)

    def signed_in(self, role: Role) -> TestClient:
        """A browser in which somebody of ``role`` is signed in; it sends our page's token."""
        client = self.client()
        answer = sign_in(client, f"{role}-1")
        assert answer.status_code == 200, answer.text
        client.headers[CSRF_HEADER] = answer.json()["csrf"]
        return client


def sign_in(client: TestClient, name: str, password: str = PASSWORD) -> Any:
    """As the page does it: first a token, then the password."""
    token = client.get("/api/session").json()["csrf"]
    return client.post("/api/session", json={"name": name, "password": password}, headers={CSRF_HEADER: token})


@asynccontextmanager
async def _past() -> AsyncIterator[Any]:
    """A stream of one event."""
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    queue.put_nowait(b"event: past\ndata: {}\n\n")
    queue.put_nowait(None)
    yield queue
