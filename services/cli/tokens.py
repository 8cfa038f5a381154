"""``weir tokens``: who may use the gateway and the console."""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from services.cli.shared import (
    add_file,
    add_json,
    add_mesh,
    file_of,
    print_json,
    print_line,
    run_alone,
    shown_time,
)
from services.mesh.adapters.token_file import FILE_NAME, change_tokens, read_tokens
from services.mesh.names import checked_name, separate
from services.mesh.settings import parse_duration_ms
from services.mesh.tokens import (
    SCOPES,
    SECRET_BYTES,
    SECRET_PREFIX,
    Token,
    checked_scopes,
    hash_of,
)


def fill(parser: argparse.ArgumentParser) -> None:
    """``weir tokens``."""
    parser.description = (
        "Make, list and revoke bearer tokens. Only a hash of each is kept; a change is in force within a "
        "second, without a restart."
    )
    parser.epilog = "example: weir tokens create shop --scopes events:write,decide --expires 90d"
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    create = actions.add_parser(
        "create",
        help="make a token and print its secret, once",
        epilog="example: weir tokens create shop --scopes events:write,decide --expires 90d",
    )
    create.add_argument("name", metavar="NAME", help="says whose it is; one token a caller")
    create.add_argument("--scopes", required=True, metavar="S,S", help=f"some of {', '.join(SCOPES)}")
    create.add_argument("--expires", metavar="90d", help="after this long (default: never)")
    create.set_defaults(run=_create)
    listing = actions.add_parser("list", help="names, scopes, times; no secrets", epilog="example: weir tokens list")
    listing.set_defaults(run=_list)
    revoke = actions.add_parser("revoke", help="end a token", epilog="example: weir tokens revoke shop")
    revoke.add_argument("name", metavar="NAME")
    revoke.set_defaults(run=_revoke)
    for action in (create, listing, revoke):
        add_mesh(action)
        add_json(action)
        add_file(action, FILE_NAME)


def _create(given: argparse.Namespace) -> int:
    now_ms = time.time_ns() // 1_000_000
    lasts_ms = None if given.expires is None else parse_duration_ms(given.expires, "--expires")
    secret = SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    token = Token(
        name=checked_name("token", given.name),
        scopes=checked_scopes(separate(given.scopes)),
        sha256=hash_of(secret),
        created_ms=now_ms,
        expires_ms=None if lasts_ms is None else now_ms + lasts_ms,
    )
    change_tokens(file_of(given), lambda book: book.with_token(token))
    if given.json:
        print_json(_plain(token) | {"secret": secret})
    else:
        sys.stderr.write(f"{_line(token)}\nIts secret follows; it is not kept and cannot be shown again.\n")
        print_line(secret)
    return 0


def _list(given: argparse.Namespace) -> int:
    tokens = read_tokens(file_of(given)).tokens
    if given.json:
        print_json([_plain(token) for token in tokens])
        return 0
    for token in tokens:
        print_line(_line(token))
    if not tokens:
        print_line("no tokens: nobody may use the gateway; make one with `weir tokens create NAME --scopes ...`")
    return 0


def _revoke(given: argparse.Namespace) -> int:
    change_tokens(file_of(given), lambda book: book.without(given.name))
    if given.json:
        print_json({"revoked": given.name})
    else:
        print_line(f"{given.name} is revoked; the gateway refuses it within a second")
    return 0


def _plain(token: Token) -> dict[str, object]:
    return {
        "name": token.name,
        "scopes": token.scopes_in_order,
        "created_ms": token.created_ms,
        "expires_ms": token.expires_ms,
        "expired": not token.is_valid_at(time.time_ns() // 1_000_000),
    }


def _line(token: Token) -> str:
    scopes = ",".join(token.scopes_in_order)
    if token.expires_ms is None:
        until = "never expires"
    elif token.is_valid_at(time.time_ns() // 1_000_000):
        until = f"until {shown_time(token.expires_ms)}"
    else:
        until = f"EXPIRED {shown_time(token.expires_ms)}"
    return f"{token.name:<24} {scopes:<44} since {shown_time(token.created_ms)}  {until}"


def main() -> int:
    """In a container that holds only its own service: ``python -m services.cli.tokens list --file F``."""
    return run_alone("tokens", fill)


if __name__ == "__main__":
    sys.exit(main())
