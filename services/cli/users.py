"""``weir users``: who may sign in to the console, and as what. It needs the data directory, not a running mesh."""

from __future__ import annotations

import argparse
import getpass
import sys
from dataclasses import replace

from services.cli.shared import add_json, add_mesh, print_json, print_line, run_alone, shown_time
from services.console import passwords
from services.console.access import ROLES, Role
from services.console.users import FILE_NAME, Users
from services.mesh.errors import Fatal
from services.platform.first_admin import made_password, user_with


def fill(parser: argparse.ArgumentParser) -> None:
    """``weir users``."""
    parser.epilog = "example: weir users list"
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    new = actions.add_parser(
        "add",
        help="somebody new; a password is made and printed once, unless one is given",
        description="viewer looks; analyst works the review queue; risk tries policies and sends refused records once "
        "more; supervisor does both and has the second pair of eyes; admin does everything.",
        epilog="example: weir users add vera --role analyst",
    )
    new.add_argument("--role", choices=ROLES, required=True)
    new.set_defaults(run=run_add)
    listing = actions.add_parser("list", help="everybody", epilog="example: weir users list --json")
    listing.set_defaults(run=run_list)
    gone = actions.add_parser(
        "remove",
        help="somebody who leaves; open pages of theirs end within seconds",
        epilog="example: weir users remove vera",
    )
    gone.set_defaults(run=run_remove)
    role = actions.add_parser(
        "role", help="another role, from the next click on", epilog="example: weir users role vera risk"
    )
    role.set_defaults(run=run_role)
    password = actions.add_parser(
        "password",
        help="a new password, made and printed once, unless one is given; it signs that user out everywhere",
        epilog="example: weir users password admin --ask",
    )
    password.set_defaults(run=run_password)
    for action in (new, gone, role, password):
        action.add_argument("name", metavar="NAME")
    role.add_argument("role", choices=ROLES, metavar="ROLE", help=", ".join(ROLES))
    for action in (new, password):
        given = action.add_mutually_exclusive_group()
        given.add_argument("--ask", action="store_true", help="type the password")
        given.add_argument("--stdin", action="store_true", help="read the password from standard input")
    for action in (new, listing, gone, role, password):
        add_mesh(action)
        add_json(action)


def run_add(given: argparse.Namespace) -> int:
    """Add, and say the password once."""
    password, is_made = _password(given)
    _users(given).put(user_with(given.name, Role(given.role), password), new=True)
    _say(given, f"{given.name} may sign in as {given.role}", password if is_made else None)
    return 0


def run_list(given: argparse.Namespace) -> int:
    """Everybody; passwords are known to nobody."""
    found = sorted(_users(given).all().values(), key=lambda user: user.name)
    if given.json:
        print_json([{"name": user.name, "role": user.role, "password_set_ms": user.changed_ms} for user in found])
        return 0
    for user in found:
        print_line(f"{user.name:24} {user.role:12} password set {shown_time(user.changed_ms)}")
    if not found:
        print_line("nobody yet: `weir users add NAME --role admin`")
    return 0


def run_remove(given: argparse.Namespace) -> int:
    """Take away."""
    _users(given).remove(given.name)
    _say(given, f"{given.name} may not sign in any more", None)
    return 0


def run_role(given: argparse.Namespace) -> int:
    """Change."""
    _users(given).set_role(given.name, Role(given.role))
    _say(given, f"{given.name} is {given.role} now", None)
    return 0


def run_password(given: argparse.Namespace) -> int:
    """Set, and say it once when it was made here."""
    users = _users(given)
    known = users.all().get(given.name)
    if known is None:
        raise Fatal(f"user {given.name}: nobody is called so; `weir users list` says who there is")
    password, is_made = _password(given)
    fresh = user_with(given.name, known.role, password)
    users.put(replace(fresh, changed_ms=max(fresh.changed_ms, known.changed_ms + 1)), new=False)
    _say(given, f"{given.name} has a new password", password if is_made else None)
    return 0


def _users(given: argparse.Namespace) -> Users:
    if not given.data_dir.is_dir():
        raise Fatal(
            f"--data-dir={given.data_dir}: is no directory; name a mesh's data directory (the first start makes it)"
        )
    return Users(given.data_dir / FILE_NAME)


def _password(given: argparse.Namespace) -> tuple[str, bool]:
    """The password, and whether it was made here."""
    if given.stdin:
        password = sys.stdin.readline().rstrip("\n")
    elif given.ask:
        password = getpass.getpass(f"new password of {given.name}: ")
        if password != getpass.getpass("once more: "):
            raise Fatal("the two differ: nothing was changed")
    else:
        return made_password(), True
    if flaw := passwords.flaw_of(password, given.name):
        raise Fatal(flaw)
    return password, False


def _say(given: argparse.Namespace, line: str, password: str | None) -> None:
    if given.json:
        print_json({"name": given.name, "password": password} if password else {"name": given.name})
        return
    print_line(line)
    if password:
        print_line(f"password, shown this once: {password}")


def main() -> int:
    """In a container that holds only the console: ``python -m services.cli.users list --data-dir D``."""
    return run_alone("users", fill)


if __name__ == "__main__":
    sys.exit(main())
