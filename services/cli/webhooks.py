"""``weir webhooks``: which other systems are told of decisions, and what became of what they did not take."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from services.cli.acting import wall_ms
from services.cli.late_parser import LateParser
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
from services.mesh.errors import Fatal
from services.mesh.names import checked_name, separate
from services.mesh.settings import parse_duration_ms
from services.webhooks.address import target_of
from services.webhooks.settings import FILE_NAME
from services.webhooks.signature import KEY_BYTES, secret_of
from services.webhooks.subscription import (
    ACTIONS,
    Secret,
    Subscription,
    Subscriptions,
    checked_actions,
)
from services.webhooks.subscription_file import change_subscriptions, load_subscriptions

_STOPPING = "decline,review"  # what somebody has to act on
# What speaks to a receiver or reads the log: name, help, who fills the parser.
_ELSEWHERE = (
    ("test", "send one signed message that is no decision", "webhook_trial:fill"),
    ("dead", "decisions that were given up, newest first", "webhook_letters:fill_dead"),
    ("redeliver", "send given-up decisions once more", "webhook_letters:fill_redeliver"),
)


def fill(parser: LateParser) -> None:
    """``weir webhooks``."""
    parser.description = (
        "Each subscription is told, over HTTP and signed, of the decisions whose action it names. A change "
        "is in force within a second, without a restart."
    )
    parser.epilog = "example: weir webhooks add bank https://bank.example/hooks --actions decline,review"
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    named: dict[str, argparse.ArgumentParser] = {}

    def action(name: str, text: str, example: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=text, epilog=f"example: weir webhooks {example}")
        made.set_defaults(run=run)
        add_mesh(made)
        add_json(made)
        add_file(made, FILE_NAME)
        named[name] = made
        return made

    new = action("add", "subscribe, and print the secret, once", "add bank https://bank.example/hooks", _add)
    action("list", "who is told what; no secrets", "list", _list)
    change = action("change", "another URL, other actions", "change bank --actions decline", _change)
    rotate = action("rotate", "a new secret; both sign for a while", "rotate bank --overlap 24h", _rotate)
    action("pause", "send nothing; what is decided meanwhile waits", "pause bank", _pause)
    action("resume", "go on where it was", "resume bank", _resume)
    action("remove", "end a subscription", "remove bank", _remove)
    for name in ("add", "change", "rotate", "pause", "resume", "remove"):
        named[name].add_argument("name", metavar="NAME")
    new.add_argument("url", metavar="URL", help="http:// or https://; redirects are not followed")
    new.add_argument("--from", dest="since", choices=["now", "beginning"], default="now", help="(default: now)")
    new.add_argument("--actions", default=_STOPPING, metavar="A,A", help=f"(default: {_STOPPING})")
    change.add_argument("--url", metavar="URL")
    change.add_argument("--actions", metavar="A,A", help=f"some of {', '.join(ACTIONS)}")
    for each in (new, change):
        each.add_argument(
            "--allow-private",
            action=argparse.BooleanOptionalAction,
            default=False if each is new else None,
            help="the URL may lead to this machine or its private network",
        )
    rotate.add_argument(
        "--overlap", default="24h", metavar="24h", help="how long the old one signs too, 0s: not at all (default: 24h)"
    )
    for name, text, place in _ELSEWHERE:
        actions.add_parser(name, help=text, filled_by=f"services.cli.{place}")


def _add(given: argparse.Namespace) -> int:
    now_ms, secret = wall_ms(), _new_secret()
    target_of(given.url, private=given.allow_private)
    subscription = Subscription(
        name=checked_name("webhook", given.name),
        url=given.url,
        actions=_actions(given.actions),
        secrets=(Secret(text=secret),),
        created_ms=now_ms,
        since_ms=now_ms if given.since == "now" else 0,
        changed_ms=now_ms,
        private=given.allow_private,
    )
    change_subscriptions(file_of(given), lambda all_: all_.with_one(subscription))
    return _show_secret(given, subscription, secret)


def _list(given: argparse.Namespace) -> int:
    found = load_subscriptions(file_of(given)).all
    if given.json:
        print_json([_plain(one) for one in found])
        return 0
    for one in found:
        print_line(_line(one))
    if not found:
        print_line("no webhooks: nobody is told; add one with `weir webhooks add NAME URL`")
    return 0


def _change(given: argparse.Namespace) -> int:
    if given.url is None and given.actions is None and given.allow_private is None:
        raise Fatal(f"webhook {given.name}: nothing to change; name --url, --actions or --allow-private")

    def changed(one: Subscription) -> Subscription:
        private = one.private if given.allow_private is None else given.allow_private
        url = given.url or one.url
        target_of(url, private=private)
        return replace(one, url=url, private=private, actions=_actions(given.actions) if given.actions else one.actions)

    return _say(given, _changed(given, changed), "is changed")


def _rotate(given: argparse.Namespace) -> int:
    secret, overlap_ms = _new_secret(), parse_duration_ms(given.overlap, "--overlap")
    return _show_secret(given, _changed(given, lambda one: one.rotated(secret, wall_ms(), overlap_ms)), secret)


def _pause(given: argparse.Namespace) -> int:
    return _say(given, _changed(given, lambda one: replace(one, paused=True)), "is paused; what is decided waits")


def _resume(given: argparse.Namespace) -> int:
    return _say(given, _changed(given, lambda one: replace(one, paused=False)), "goes on")


def _remove(given: argparse.Namespace) -> int:
    change_subscriptions(file_of(given), lambda all_: all_.without(given.name))
    if given.json:
        print_json({"removed": given.name})
    else:
        print_line(f"{given.name} is removed; nothing more is sent to it")
    return 0


def _changed(given: argparse.Namespace, change: Callable[[Subscription], Subscription]) -> Subscription:
    made: list[Subscription] = []

    def replaced(all_: Subscriptions) -> Subscriptions:
        made.append(replace(change(all_.named(given.name)), changed_ms=wall_ms()))
        return all_.with_changed(made[-1])

    change_subscriptions(file_of(given), replaced)
    return made[-1]


def _actions(text: str) -> Any:
    return checked_actions(separate(text))


def _new_secret() -> str:
    return secret_of(secrets.token_bytes(KEY_BYTES))


def _show_secret(given: argparse.Namespace, one: Subscription, secret: str) -> int:
    if given.json:
        print_json(_plain(one) | {"secret": secret})
    else:
        sys.stderr.write(f"{_line(one)}\nIts secret follows, for the receiver; it is not shown again.\n")
        print_line(secret)
    return 0


def _say(given: argparse.Namespace, one: Subscription, what: str) -> int:
    if given.json:
        print_json(_plain(one))
    else:
        print_line(f"{one.name} {what}, within a second")
    return 0


def _plain(one: Subscription) -> dict[str, object]:
    return {
        "name": one.name,
        "url": one.url,
        "actions": one.actions_in_order,
        "private": one.private,
        "paused": one.paused,
        "created_ms": one.created_ms,
        "changed_ms": one.changed_ms,
        "since_ms": one.since_ms,
        "secrets": len(one.keys(wall_ms())),
        "group": one.group,
    }


def _line(one: Subscription) -> str:
    actions = ",".join(one.actions_in_order)
    state = " PAUSED" if one.paused else ""
    return f"{one.name:<20} {actions:<24} {one.url}  since {shown_time(one.since_ms)}{state}"


def main() -> int:
    """In a container that holds only its own service: ``python -m services.cli.webhooks list --file F``."""
    return run_alone("webhooks", fill)


if __name__ == "__main__":
    sys.exit(main())
