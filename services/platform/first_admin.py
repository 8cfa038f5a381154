"""The console's first user: whoever starts a mesh can sign in, and is told how once."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from services.console import passwords
from services.console.access import Role
from services.console.users import FILE_NAME, User, Users

NAME = "admin"


def first_admin(data_dir: Path) -> str | None:
    """Make the user ``admin`` where nobody may sign in yet; the password, None when somebody may."""
    users = Users(data_dir / FILE_NAME)
    if users.all():
        return None
    password = made_password()
    users.put(user_with(NAME, Role.ADMIN, password), new=True)
    return password


def where_the_page_is(url: str, data_dir: Path) -> list[str]:
    """For people; on the first start with the password of its first user, which nobody can read again."""
    password = first_admin(data_dir)
    if password is None:
        return [f"console {url}"]
    return [
        f"console {url}",  # nothing behind it: terminals make a link of what follows
        f"    sign in as user {NAME}, password {password}",
        "    shown this once: set your own at the top right of the page; weir users add lets others in",
    ]


def made_password() -> str:
    """120 random bits, to be typed once."""
    return secrets.token_urlsafe(15)


def user_with(name: str, role: Role, password: str) -> User:
    """A user whose password was set now."""
    stored = passwords.stored_form(password, secrets.token_bytes(passwords.SALT_BYTES))
    return User(name=name, role=role, password=stored, changed_ms=time.time_ns() // 1_000_000)
