"""Signing in, staying in, getting out; wrong passwords, and cookies that nobody else can use."""

from __future__ import annotations

from pathlib import Path

import pytest
from console_client import PASSWORD, STORED, Console, sign_in

from services.console import passwords
from services.console.access import Role
from services.console.lockout import FREE_TRIES_ADDRESS, FREE_TRIES_NAME, KEPT_MAX, WAIT_S_MAX, Lockout
from services.console.sessions import AGE_S_MAX, IDLE_S_MAX, SESSIONS_MAX, Sessions, csrf_of
from services.console.users import User


@pytest.fixture
def console(tmp_path: Path) -> Console:
    return Console(tmp_path)


def user(name: str, role: Role = Role.VIEWER, changed_ms: int = 1) -> User:
    return User(name=name, role=role, password=STORED, changed_ms=changed_ms)


def test_who_is_right_is_in_and_told_what_they_may(console: Console) -> None:
    answer = sign_in(console.client(), "viewer-1")
    told = answer.json()["user"]
    assert (told["name"], told["role"]) == ("viewer-1", "viewer")
    assert "GET /api/live" in told["may"]
    assert "POST /api/backtests" not in told["may"]


def test_wrong_password_and_unknown_user_get_the_same_answer(console: Console) -> None:
    wrong = sign_in(console.client(), "viewer-1", "wrong-wrong-wrong")
    nobody = sign_in(console.client(), "nobody")
    assert wrong.status_code == nobody.status_code == 401
    assert wrong.json() == nobody.json()


def test_the_cookie_is_of_no_use_to_scripts_and_other_sites(console: Console, tmp_path: Path) -> None:
    plain = sign_in(console.client(), "viewer-1").headers["set-cookie"]
    assert plain.startswith("weir=")
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(plain.split("; "))
    assert "Secure" not in plain  # loopback has no TLS
    (tmp_path / "secure").mkdir()
    secure = sign_in(Console(tmp_path / "secure", is_secure=True).client(), "viewer-1")
    assert secure.headers["set-cookie"].startswith("__Host-weir=")
    assert "Secure" in secure.headers["set-cookie"].split("; ")
    assert "max-age=31536000" in secure.headers["strict-transport-security"]


def test_signing_in_gives_a_new_cookie(console: Console) -> None:
    """A cookie that somebody put there before is worth nothing afterwards."""
    client = console.client()
    client.get("/api/session")
    before = client.cookies["weir"]
    sign_in(client, "viewer-1")
    assert client.cookies["weir"] != before
    stranger = console.client()
    stranger.cookies["weir"] = before
    assert stranger.get("/api/models").status_code == 401


def test_signing_out_ends_the_session_on_the_server(console: Console) -> None:
    client = console.signed_in(Role.VIEWER)
    cookie = client.cookies["weir"]
    assert client.post("/api/session/end").status_code == 204
    client.cookies["weir"] = cookie
    assert client.get("/api/models").status_code == 401


def test_a_session_ends_idle_old_removed_or_with_a_new_password(console: Console) -> None:
    client = console.signed_in(Role.ANALYST)
    console.clock.s += IDLE_S_MAX - 1
    assert client.get("/api/models").status_code == 200
    console.clock.s += IDLE_S_MAX + 1
    assert client.get("/api/models").status_code == 401

    client = console.signed_in(Role.ANALYST)
    for _ in range(3):
        console.clock.s += IDLE_S_MAX - 1
        last = client.get("/api/models").status_code
    assert last == 401
    assert IDLE_S_MAX < AGE_S_MAX < 3 * IDLE_S_MAX

    client = console.signed_in(Role.ANALYST)
    console.users.remove("analyst-1")
    assert client.get("/api/models").status_code == 401

    client = console.signed_in(Role.RISK)
    console.users.put(user("risk-1", Role.RISK, changed_ms=2), new=False)
    assert client.get("/api/models").status_code == 401


def test_another_role_holds_from_the_next_click(console: Console) -> None:
    client = console.signed_in(Role.ANALYST)
    assert client.get("/api/reviews").status_code == 200
    console.users.set_role("analyst-1", Role.VIEWER)
    assert client.get("/api/reviews").status_code == 403


def test_five_wrong_passwords_lock_the_name_for_longer_and_longer(console: Console) -> None:
    client = console.client()
    for _ in range(FREE_TRIES_NAME):
        assert sign_in(client, "viewer-1", "wrong-wrong-wrong").status_code == 401
    locked = sign_in(client, "viewer-1")
    assert locked.status_code == 429
    assert locked.headers["retry-after"] == "2"
    assert sign_in(client, "risk-1").status_code == 200  # others are not kept out
    console.clock.s += 2.1
    assert sign_in(client, "viewer-1", "wrong-wrong-wrong").status_code == 401
    assert sign_in(client, "viewer-1").headers["retry-after"] == "4"
    console.clock.s += 4.1
    assert sign_in(client, "viewer-1").status_code == 200


def test_lockout_counts_addresses_too_and_stays_small() -> None:
    lockout = Lockout()
    for number in range(FREE_TRIES_ADDRESS):
        assert lockout.wait_s(f"user-{number}", "10.0.0.1", 0.0) == 0.0
        lockout.failed(f"user-{number}", "10.0.0.1", 0.0)
    assert lockout.wait_s("another", "10.0.0.1", 0.0) == 2.0
    assert lockout.wait_s("another", "10.0.0.2", 0.0) == 0.0
    lockout.succeeded("another")
    assert lockout.wait_s("another", "10.0.0.1", 0.0) == 2.0
    for _ in range(1_000):
        lockout.failed("victim", "10.0.0.3", 0.0)
    assert lockout.wait_s("victim", "10.0.0.9", 0.0) == WAIT_S_MAX
    for number in range(KEPT_MAX):
        lockout.failed(f"flood-{number}", f"a{number}", 0.0)
    assert len(lockout._records) == KEPT_MAX


def test_sessions_stay_few_and_the_longest_unused_gives_way() -> None:
    sessions, users = Sessions(), {"a": user("a")}
    for number in range(SESSIONS_MAX + 1):
        sessions.open(f"id-{number}", users["a"], 0.0)
        sessions.find("id-0", users, 0.0)
    assert len(sessions) == SESSIONS_MAX
    assert sessions.find("id-0", users, 0.0) is not None
    assert sessions.find("id-1", users, 0.0) is None


def test_a_token_belongs_to_one_cookie_and_one_console() -> None:
    assert csrf_of(b"k", "a") != csrf_of(b"k", "b")
    assert csrf_of(b"k", "a") != csrf_of(b"l", "a")


def test_a_new_password_signs_out_everywhere_else(console: Console) -> None:
    here, there = console.signed_in(Role.RISK), console.signed_in(Role.RISK)
    sent = {"old": PASSWORD, "new": "a-river-runs-under-it"}
    assert here.post("/api/session/password", json={**sent, "old": "wrong"}).status_code == 403
    assert here.post("/api/session/password", json={**sent, "new": "short"}).status_code == 422
    changed = here.post("/api/session/password", json=sent)
    assert changed.status_code == 200
    assert there.get("/api/models").status_code == 401
    assert here.get("/api/models").status_code == 200
    assert sign_in(console.client(), "risk-1").status_code == 401
    assert sign_in(console.client(), "risk-1", "a-river-runs-under-it").status_code == 200


def test_a_stored_password_tells_nothing_and_fits_only_itself() -> None:
    stored = passwords.stored_form(PASSWORD, b"s" * 16)
    assert PASSWORD not in stored
    assert stored.startswith("scrypt$15$8$3$")
    assert passwords.is_right(PASSWORD, stored)
    assert not passwords.is_right(PASSWORD + " ", stored)
    assert not passwords.is_right(PASSWORD, "scrypt$nonsense")
    assert not passwords.is_right("", passwords.NOBODY)
    assert passwords.stored_form(PASSWORD, b"t" * 16) != stored


@pytest.mark.parametrize("weak", ["short", "aaaaaaaaaaaaaa", "vera-vera-vera", "x" * 300])
def test_weak_passwords_are_refused_with_the_reason(weak: str) -> None:
    assert passwords.flaw_of(weak, "vera")
    assert not passwords.flaw_of(PASSWORD, "vera")
