"""The users file: nobody else may read it, two writers take turns, and it is never half written."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from services.cli.__main__ import main
from services.console import passwords
from services.console.access import Role
from services.console.users import User, Users
from services.mesh.errors import Fatal
from services.platform.first_admin import first_admin


def user(name: str, role: Role = Role.VIEWER) -> User:
    return User(name=name, role=role, password=passwords.NOBODY, changed_ms=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "users.json"


def test_what_is_written_is_read_and_only_its_owner_may(file: Path) -> None:
    Users(file).put(user("ann", Role.ADMIN), new=True)
    assert Users(file).all() == {"ann": user("ann", Role.ADMIN)}
    assert file.stat().st_mode & 0o777 == 0o600
    assert (file.parent / "users.json.lock").stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    with pytest.raises(Fatal, match="lets other users read or change who may sign in"):
        Users(file).all()


def test_a_change_by_somebody_else_is_seen(file: Path) -> None:
    here, there = Users(file), Users(file)
    here.put(user("ann", Role.ADMIN), new=True)
    assert set(there.all()) == {"ann"}
    here.put(user("bob"), new=True)
    assert set(there.all()) == {"ann", "bob"}
    here.remove("bob")
    assert set(there.all()) == {"ann"}


def test_writers_take_turns(file: Path) -> None:
    Users(file).put(user("admin", Role.ADMIN), new=True)
    threads = [
        threading.Thread(target=lambda n=number: Users(file).put(user(f"u{n}"), new=True)) for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Users(file).all()) == 21
    assert sorted(path.name for path in file.parent.iterdir()) == ["users.json", "users.json.lock"]


def test_refusals_say_what_to_do(file: Path) -> None:
    users = Users(file)
    users.put(user("ann", Role.ADMIN), new=True)
    with pytest.raises(Fatal, match="is there already"):
        users.put(user("ann"), new=True)
    with pytest.raises(Fatal, match="there are ann"):
        users.remove("bob")
    for change in (lambda: users.remove("ann"), lambda: users.set_role("ann", Role.VIEWER)):
        with pytest.raises(Fatal, match="nobody would be an admin"):
            change()
    assert set(users.all()) == {"ann"}
    for name in ("", "Ann", "a b", "<script>", "../x", "a" * 65):
        with pytest.raises(Fatal, match="a name has"):
            users.put(user(name), new=True)


@pytest.mark.parametrize("text", ["", "{}", '{"users": 7}', '{"users": [{"name": "x", "role": "root"}]}'])
def test_a_corrupt_file_is_one_line(file: Path, text: str) -> None:
    file.write_text(text)
    os.chmod(file, 0o600)
    with pytest.raises(Fatal, match="is corrupt"):
        Users(file).all()


def test_the_first_start_makes_one_admin_and_says_the_password_once(tmp_path: Path) -> None:
    password = first_admin(tmp_path)
    assert password is not None
    made = Users(tmp_path / "users.json").all()["admin"]
    assert made.role is Role.ADMIN
    assert passwords.is_right(password, made.password)
    assert not passwords.flaw_of(password, "admin")
    assert first_admin(tmp_path) is None
    assert password not in (tmp_path / "users.json").read_text()


def test_the_command_line_adds_lists_changes_and_removes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def weir(*arguments: str) -> tuple[int, str]:
        status = main(["users", *arguments, "--data-dir", str(tmp_path)])
        return status, "".join(capsys.readouterr())

    assert weir("list") == (0, "nobody yet: `weir users add NAME --role admin`\n")
    assert weir("add", "ann", "--role", "admin")[0] == 0
    status, said = weir("add", "vera", "--role", "analyst", "--json")
    assert status == 0
    password = json.loads(said)["password"]
    assert passwords.is_right(password, Users(tmp_path / "users.json").all()["vera"].password)
    assert weir("role", "vera", "risk") == (0, "vera is risk now\n")
    status, said = weir("password", "vera")
    fresh = said.split()[-1]
    assert status == 0
    assert passwords.is_right(fresh, Users(tmp_path / "users.json").all()["vera"].password)
    assert [one["role"] for one in json.loads(weir("list", "--json")[1])] == ["admin", "risk"]
    assert weir("remove", "vera")[0] == 0
    status, said = weir("remove", "ann")
    assert (status, said) == (1, "weir: nobody would be an admin any more: make somebody else one first\n")


def test_a_typed_password_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter(["long-enough-word", "another-word-here", "short", "short"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(typed))
    assert main(["users", "add", "ann", "--role", "admin", "--ask", "--data-dir", str(tmp_path)]) == 1
    assert main(["users", "add", "ann", "--role", "admin", "--ask", "--data-dir", str(tmp_path)]) == 1
    assert Users(tmp_path / "users.json").all() == {}
