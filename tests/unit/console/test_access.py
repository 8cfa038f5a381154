"""Every route by every role, and by nobody: who is let in is what the table says, and nothing is missing from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from console_client import Console
from fastapi.routing import APIRoute

from services.console.access import ACCESS, EVERYBODY, Role, may, role_named

# A body that each route takes, so that a refusal can only be the door's.
BODIES: dict[str, Any] = {
    "/api/session": {"name": "viewer-1", "password": "wrong-wrong-wrong"},
    "/api/session/password": {"old": "wrong-wrong-wrong", "new": "another-long-word"},
    "/api/dead-letters/requeue": {"places": [[0, 1]]},
    "/api/backtests": {"policy": "name: x"},
    "/api/reviews/{case_id}/verdict": {"verdict": "fraud", "why": "seen"},
}
# What may be done, written down a second time and by hand: the table in the code has to agree.
LOOKS = {"viewer", "analyst", "risk", "supervisor", "admin"}
WORKS, OPERATES = {"analyst", "supervisor", "admin"}, {"risk", "supervisor", "admin"}
EXPECTED: dict[tuple[str, str], set[str] | None] = {
    ("GET", "/"): None,
    ("GET", "/static/{name:path}"): None,
    ("GET", "/favicon.ico"): None,
    ("GET", "/api/session"): None,
    ("POST", "/api/session"): None,
    ("POST", "/api/session/end"): LOOKS,
    ("POST", "/api/session/password"): LOOKS,
    ("GET", "/api/live"): LOOKS,
    ("GET", "/api/quality"): LOOKS,
    ("GET", "/api/models"): LOOKS,
    ("GET", "/api/policies"): LOOKS,
    ("GET", "/api/policies/{version}"): LOOKS,
    ("GET", "/api/events/{event_id:path}"): LOOKS,
    ("GET", "/api/dead-letters"): LOOKS,
    ("GET", "/api/dead-letters/{partition}/{offset}"): LOOKS,
    ("POST", "/api/dead-letters/requeue"): OPERATES,
    ("GET", "/api/backtests"): LOOKS,
    ("GET", "/api/backtests/{name}"): LOOKS,
    ("POST", "/api/backtests"): OPERATES,
    ("GET", "/api/reviews"): WORKS,
    ("GET", "/api/reviews/{case_id}"): WORKS,
    ("POST", "/api/reviews/next"): WORKS,
    ("POST", "/api/reviews/{case_id}/claim"): WORKS,
    ("POST", "/api/reviews/{case_id}/release"): WORKS,
    ("POST", "/api/reviews/{case_id}/verdict"): WORKS,
    ("GET", "/api/audit"): {"supervisor", "admin"},
    ("GET", "/api/users"): {"admin"},
}
DOORS = (401, 403)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Console:
    return Console(tmp_path_factory.mktemp("console"))


def routes(console: Console) -> set[tuple[str, str]]:
    """Of the application itself, inside what guards it."""
    inner = console.app._app  # type: ignore[attr-defined]
    return {(method, route.path) for route in inner.routes for method in getattr(route, "methods", ())}


def filled(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "1", path)


def test_every_route_is_in_the_table_and_every_line_of_it_is_a_route(console: Console) -> None:
    assert routes(console) == set(ACCESS) == set(EXPECTED)
    assert all(isinstance(route, APIRoute) for route in console.app._app.routes)  # type: ignore[attr-defined]


@pytest.mark.parametrize("role", [*Role, None])
def test_every_route_lets_in_whom_it_should(console: Console, role: Role | None) -> None:
    found, wanted = {}, {}
    for (method, path), roles in EXPECTED.items():
        client = console.signed_in(role) if role else console.client()
        if role is None:
            client.headers["x-weir-csrf"] = client.get("/api/session").json()["csrf"]
        answer = client.request(method, filled(path), json=BODIES.get(path) if method == "POST" else None)
        is_wrong_password = path.startswith("/api/session") and path in BODIES and method == "POST"
        if is_wrong_password and (roles is None or role in roles):
            continue  # 401 and 403 have another meaning there; the next tests look
        found[method, path] = answer.status_code if answer.status_code in DOORS else "in"
        wanted[method, path] = "in" if roles is None else 401 if role is None else "in" if role in roles else 403
    assert found == wanted


def test_a_route_that_is_not_in_the_table_is_nobodys() -> None:
    assert not any(may(role, "GET", "/api/forgotten") for role in Role)
    assert may(Role.VIEWER, "GET", "/api/live")
    assert ACCESS["GET", "/"] is EVERYBODY


def test_roles_are_the_five() -> None:
    assert [role_named(name) for name in ("viewer", "analyst", "risk", "supervisor", "admin")] == list(Role)
    assert role_named("root") is None


@pytest.mark.parametrize("path", [p for m, p in EXPECTED if m == "POST"])
def test_every_post_needs_the_token_of_our_page(console: Console, path: str) -> None:
    for token in ("", "0" * 64):
        client = console.signed_in(Role.ADMIN)
        client.headers["x-weir-csrf"] = token
        answer = client.post(filled(path), json=BODIES.get(path))
        assert answer.status_code == 403, path
        assert "load it again" in answer.json()["detail"]


def test_a_post_from_another_site_is_refused(console: Console) -> None:
    client = console.signed_in(Role.ADMIN)
    for site in ("cross-site", "same-site"):
        answer = client.post("/api/session/end", headers={"sec-fetch-site": site})
        assert answer.status_code == 403


def test_users_file_and_lookups_are_out_of_reach_by_path(console: Console, tmp_path: Path) -> None:
    client = console.client()
    for path in ("/static/../users.json", "/static/%2e%2e/users.py", "/static/main.js/../../settings.py"):
        assert client.get(path).status_code == 404
