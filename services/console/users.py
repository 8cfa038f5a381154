"""Who may sign in: one JSON file that only its owner may read, replaced whole at each change.

The command line writes it, the console reads it at every request that needs it (when it has changed), and writes when
somebody sets a new password. Two writers take turns by a lock beside the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from services.console.access import ROLES, Role, role_named
from services.mesh.adapters.private_file import State, only_writer, require_private, state_of, write_private
from services.mesh.errors import Fatal

FILE_NAME: Final = "users.json"  # in the data directory
USERS_MAX: Final = 1_000
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One person."""

    name: str
    role: Role
    password: str  # as ``passwords.stored_form`` makes it
    changed_ms: int  # when the password was set


class Users:
    """The file at ``path``; nobody when it is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: State | None = None
        self._users: Mapping[str, User] = {}

    def all(self) -> Mapping[str, User]:
        """Everybody, by name, as the file says now. Raises Fatal when it says nothing sensible."""
        seen = state_of(self._path)
        if seen is None:
            self._seen, self._users = None, {}
        elif seen != self._seen:
            require_private(self._path, "read or change who may sign in")
            self._users, self._seen = self._read(), seen
        return self._users

    def put(self, user: User, *, new: bool) -> None:
        """Add somebody (``new``), or change who is there. Raises Fatal."""
        if not _NAME.fullmatch(user.name):
            raise Fatal(f"user {user.name!r}: a name has 1 to 64 of a-z 0-9 . _ @ - and begins with a letter or digit")
        with self._changing() as users:
            if new and user.name in users:
                raise Fatal(f"user {user.name} is there already; `weir users role` and `weir users password` change it")
            if not new and user.name not in users:
                raise Fatal(_unknown(user.name, users))
            if len(users) >= USERS_MAX and new:
                raise Fatal(f"{len(users)} users: at most {USERS_MAX}; remove somebody first")
            users[user.name] = user

    def remove(self, name: str) -> None:
        """Take ``name`` away. Raises Fatal when nobody is called so, or nobody else is an admin."""
        with self._changing() as users:
            if name not in users:
                raise Fatal(_unknown(name, users))
            del users[name]
            _keep_an_admin(users)

    def set_role(self, name: str, role: Role) -> None:
        """Give ``name`` another role. Raises Fatal."""
        with self._changing() as users:
            if name not in users:
                raise Fatal(_unknown(name, users))
            users[name] = User(**asdict(users[name]) | {"role": role})
            _keep_an_admin(users)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, User]]:
        with only_writer(self._path):
            users = dict(self.all())
            yield users
            listed = {"users": [asdict(user) for user in users.values()]}
            write_private(self._path, json.dumps(listed, indent=2) + "\n")

    def _read(self) -> dict[str, User]:
        try:
            users = [_user(entry) for entry in json.loads(self._path.read_text())["users"]]
        except (ValueError, KeyError, TypeError) as error:
            raise Fatal(f"{self._path} is corrupt ({error!r}): restore it, or remove it and add users anew") from None
        return {user.name: user for user in users}


def _user(entry: Mapping[str, object]) -> User:
    role = role_named(str(entry["role"]))
    if role is None:
        raise ValueError(f"role {entry['role']!r} is none of {', '.join(ROLES)}")
    changed_ms = entry["changed_ms"]
    if not isinstance(changed_ms, int):
        raise ValueError(f"changed_ms {changed_ms!r} is no whole number")
    return User(name=str(entry["name"]), role=role, password=str(entry["password"]), changed_ms=changed_ms)


def _keep_an_admin(users: Mapping[str, User]) -> None:
    if not any(user.role is Role.ADMIN for user in users.values()):
        raise Fatal("nobody would be an admin any more: make somebody else one first")


def _unknown(name: str, users: Mapping[str, User]) -> str:
    return f"user {name}: nobody is called so; there are {', '.join(sorted(users)) or 'no users'}"
