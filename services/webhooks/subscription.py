"""Who is told what, where, and with which secret: the subscriptions and their file's form. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, get_args

import yaml

from services.mesh.errors import Fatal
from services.mesh.names import checked_choices, checked_name
from services.mesh.records import Action
from services.webhooks.address import target_of
from services.webhooks.signature import key_of

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
# Each reads the whole of decisions.v1 for itself.
SUBSCRIPTIONS_MAX: Final = 50
GROUP_PREFIX: Final = "webhooks-"
_FORMAT: Final = "weir-webhooks 1"
_NEEDED: Final = ("url", "actions", "secrets", "created_ms", "since_ms")
_FIELDS: Final = (*_NEEDED, "changed_ms", "private", "paused")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """One secret; an old one holds until its successor is known to the receiver."""

    text: str = field(repr=False)
    until_ms: int | None = None  # None: until it is rotated


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One receiver."""

    name: str
    url: str
    actions: frozenset[Action]
    secrets: tuple[Secret, ...]  # newest first
    created_ms: int  # tells apart two of one name, one after the other
    since_ms: int  # the first decisions that it is told: appended then or later
    changed_ms: int  # a change, even one that changes nothing else, starts it anew
    private: bool = False  # may be an address of this machine or its network
    paused: bool = False

    @property
    def group(self) -> str:
        """Its consumer group."""
        return GROUP_PREFIX + self.name

    @property
    def actions_in_order(self) -> list[Action]:
        """As everybody lists them."""
        return [action for action in ACTIONS if action in self.actions]

    def keys(self, now_ms: int) -> list[bytes]:
        """Keys in force, newest first."""
        return [key_of(one.text) for one in self.secrets if one.until_ms is None or now_ms < one.until_ms]

    def rotated(self, secret: str, now_ms: int, overlap_ms: int) -> Subscription:
        """With a new secret; those before it hold for ``overlap_ms`` more, at most."""
        until_ms = now_ms + overlap_ms
        kept = [
            replace(old, until_ms=until_ms if old.until_ms is None else min(old.until_ms, until_ms))
            for old in self.secrets
            if old.until_ms is None or now_ms < old.until_ms
        ]
        return replace(self, secrets=(Secret(text=secret), *(kept if overlap_ms else ())), changed_ms=now_ms)


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """All of them."""

    all: tuple[Subscription, ...] = ()

    def named(self, name: str) -> Subscription:
        """The one called ``name``. Raises Fatal."""
        for one in self.all:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in self.all) or "none"
        raise Fatal(f"webhook {name}: there is none of that name (there are: {known})")

    def with_one(self, new: Subscription) -> Subscriptions:
        """And one more. Raises Fatal when the name is taken."""
        if any(one.name == new.name for one in self.all):
            raise Fatal(f"webhook {new.name}: there is one of that name; change it with `weir webhooks change`")
        if len(self.all) >= SUBSCRIPTIONS_MAX:
            raise Fatal(f"webhook {new.name}: there are {SUBSCRIPTIONS_MAX} already; remove one that nobody uses")
        return Subscriptions((*self.all, new))

    def with_changed(self, changed: Subscription) -> Subscriptions:
        """With ``changed`` in place of the one of its name. Raises Fatal."""
        self.named(changed.name)
        return Subscriptions(tuple(changed if one.name == changed.name else one for one in self.all))

    def without(self, name: str) -> Subscriptions:
        """Without the one called ``name``. Raises Fatal."""
        self.named(name)
        return Subscriptions(tuple(one for one in self.all if one.name != name))


def checked_actions(names: Iterable[str]) -> frozenset[Action]:
    """``names`` as actions. Raises Fatal for one that does not exist, and for none at all."""
    return checked_choices("action", ACTIONS, names, "a webhook without an action is told nothing")


def written(subscriptions: Subscriptions) -> str:
    """As the file holds them."""
    document = {"format": _FORMAT, "webhooks": {one.name: _plain(one) for one in subscriptions.all}}
    return yaml.safe_dump(document, sort_keys=False, width=1_000)


def read_subscriptions(text: str, place: str) -> Subscriptions:
    """What ``text`` says. Raises Fatal with every mistake in one line."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Fatal(f"{place} is no YAML: {' '.join(str(error).split())}; correct it, or restore it") from None
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise Fatal(f"{place}: must begin with `format: {_FORMAT}`; `weir webhooks add` makes such a file")
    entries = document.get("webhooks") or {}
    if not isinstance(entries, dict) or set(document) - {"format", "webhooks"}:
        raise Fatal(f"{place}: must hold `format` and `webhooks` alone, the latter by name")
    if len(entries) > SUBSCRIPTIONS_MAX:
        raise Fatal(f"{place}: {len(entries)} webhooks; at most {SUBSCRIPTIONS_MAX}")
    found, mistakes = list[Subscription](), list[str]()
    for name, entry in entries.items():
        try:
            found.append(_subscription(str(name), entry))
        except Fatal as fatal:
            mistakes.append(f"{name}: {fatal}")
    if mistakes:
        raise Fatal(f"{place}: {'; '.join(mistakes)}")
    return Subscriptions(tuple(found))


def _subscription(name: str, entry: object) -> Subscription:
    checked_name("webhook", name)
    if not isinstance(entry, dict):
        raise Fatal(f"must hold {', '.join(_NEEDED)}")
    missing = [key for key in _NEEDED if key not in entry]
    unknown = [str(key) for key in entry if key not in _FIELDS]
    if missing or unknown:
        raise Fatal(" and ".join((*(f"{key} is missing" for key in missing), *(f"{k} is unknown" for k in unknown))))
    private, created_ms = _truth(entry, "private"), _time(entry, "created_ms")
    url = entry["url"]
    if not isinstance(url, str):
        raise Fatal(f"url {url!r}: must be text")
    target_of(url, private=private)
    actions = entry["actions"]
    if not isinstance(actions, list):
        raise Fatal(f"actions {actions!r}: must be a list of {', '.join(ACTIONS)}")
    return Subscription(
        name=name,
        url=url,
        actions=checked_actions(map(str, actions)),
        secrets=_secrets(entry["secrets"]),
        created_ms=created_ms,
        since_ms=_time(entry, "since_ms"),
        changed_ms=_time(entry, "changed_ms") if "changed_ms" in entry else created_ms,
        private=private,
        paused=_truth(entry, "paused"),
    )


def _secrets(entries: object) -> tuple[Secret, ...]:
    if not isinstance(entries, list) or not entries:
        raise Fatal("secrets: must be a list with at least one; `weir webhooks rotate NAME` makes one")
    found = []
    for entry in entries:
        known = isinstance(entry, dict) and set(entry) <= {"secret", "until_ms"}
        if not known or not isinstance(entry.get("secret"), str):
            raise Fatal("secrets: each must hold `secret`, and `until_ms` where it is an old one")
        key_of(entry["secret"])
        found.append(Secret(text=entry["secret"], until_ms=_time(entry, "until_ms") if "until_ms" in entry else None))
    return tuple(found)


def _time(entry: Mapping[str, Any], key: str) -> int:
    value = entry[key]
    if type(value) is not int or value < 0:
        raise Fatal(f"{key} {value!r}: must be Unix milliseconds")
    return value


def _truth(entry: Mapping[str, Any], key: str) -> bool:
    value = entry.get(key, False)
    if type(value) is not bool:
        raise Fatal(f"{key} {value!r}: must be true or false")
    return value


def _plain(one: Subscription) -> dict[str, Any]:
    return {
        "url": one.url,
        "actions": one.actions_in_order,
        "private": one.private,
        "paused": one.paused,
        "created_ms": one.created_ms,
        "changed_ms": one.changed_ms,
        "since_ms": one.since_ms,
        "secrets": [
            {"secret": old.text} | ({} if old.until_ms is None else {"until_ms": old.until_ms}) for old in one.secrets
        ],
    }
