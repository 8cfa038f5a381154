"""Subscriptions: what the file says is what was put there, and each mistake is one line that names it."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.mesh.errors import Fatal
from services.webhooks.address import refusal_of, target_of
from services.webhooks.signature import secret_of
from services.webhooks.subscription import (
    ACTIONS,
    SUBSCRIPTIONS_MAX,
    Secret,
    Subscription,
    Subscriptions,
    checked_actions,
    read_subscriptions,
    written,
)
from services.webhooks.subscription_file import SubscriptionFile, change_subscriptions, load_subscriptions

SECRET = secret_of(b"k" * 32)
TIMES = st.integers(0, 2**53)


def subscription(name: str = "bank", **fields: Any) -> Subscription:
    one = Subscription(
        name=name, url="https://bank.example/hooks?x=1", actions=frozenset({"decline"}),
        secrets=(Secret(text=SECRET),), created_ms=5, since_ms=5, changed_ms=5,
    )  # fmt: skip
    return replace(one, **fields)


SUBSCRIPTIONS = st.builds(
    subscription,
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,10}", fullmatch=True),
    actions=st.sets(st.sampled_from(ACTIONS), min_size=1).map(frozenset),
    secrets=st.lists(
        st.builds(Secret, text=st.binary(min_size=24, max_size=64).map(secret_of), until_ms=st.none() | TIMES),
        min_size=1, max_size=3,
    ).map(tuple),
    created_ms=TIMES, since_ms=TIMES, changed_ms=TIMES, private=st.booleans(), paused=st.booleans(),
)  # fmt: skip


@given(st.lists(SUBSCRIPTIONS, max_size=4, unique_by=lambda one: one.name))
def test_what_is_written_is_read(all_: list[Subscription]) -> None:
    """Names that YAML would take for numbers or truths included."""
    assert read_subscriptions(written(Subscriptions(tuple(all_))), "x") == Subscriptions(tuple(all_))


def test_names_are_taken_once_and_asked_for_by_whoever_knows_them() -> None:
    both = Subscriptions().with_one(subscription()).with_one(subscription("shop"))
    with pytest.raises(Fatal, match="webhook bank: there is one of that name; change it with `weir webhooks change`"):
        both.with_one(subscription())
    with pytest.raises(Fatal, match=r"webhook bakn: there is none of that name \(there are: bank, shop\)"):
        both.without("bakn")
    assert both.without("bank").all == (subscription("shop"),)
    assert both.with_changed(subscription(paused=True)).named("bank").paused
    many = Subscriptions(tuple(subscription(f"w{n}") for n in range(SUBSCRIPTIONS_MAX)))
    with pytest.raises(Fatal, match=f"there are {SUBSCRIPTIONS_MAX} already"):
        many.with_one(subscription())


def spoilt(**fields: Any) -> str:
    document = yaml.safe_load(written(Subscriptions((subscription(),))))
    document["webhooks"]["bank"] |= fields
    return yaml.safe_dump(document)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "x is no YAML"),
        ("[]", "must begin with `format: weir-webhooks 1`"),
        ("format: weir-webhooks 2", "must begin with `format: weir-webhooks 1`"),
        ("format: weir-webhooks 1\nhooks: {}", "must hold `format` and `webhooks` alone"),
        ("format: weir-webhooks 1\nwebhooks: []\nx: 1", "must hold `format` and `webhooks` alone"),
        ("format: weir-webhooks 1\nwebhooks: {Bank: {}}", "Bank: webhook name 'Bank': must be 1 to 64 of"),
        ("format: weir-webhooks 1\nwebhooks: {bank: 5}", "bank: must hold url, actions, secrets"),
        ("format: weir-webhooks 1\nwebhooks: {bank: {ulr: x}}", "url is missing and actions is missing"),
        (spoilt(ulr="x"), "bank: ulr is unknown"),
        (spoilt(url=5), "url 5: must be text"),
        (spoilt(url="ftp://x/"), "must be http://... or https://... with a host"),
        (spoilt(url="http://10.0.0.1/"), "if that is meant, allow it"),
        (spoilt(actions="decline"), "actions 'decline': must be a list of"),
        (spoilt(actions=["block"]), "action 'block' does not exist: name some of approve, challenge, review, decline"),
        (spoilt(actions=[]), "a webhook without an action is told nothing"),
        (spoilt(secrets=[]), "secrets: must be a list with at least one"),
        (spoilt(secrets=[SECRET]), "secrets: each must hold `secret`"),
        (spoilt(secrets=[{"secret": "whsec_x"}]), "secret: must be whsec_ and 24 to 64 bytes in base64"),
        (spoilt(created_ms=True), "created_ms True: must be Unix milliseconds"),
        (spoilt(since_ms=-1), "since_ms -1: must be Unix milliseconds"),
        (spoilt(paused="no way"), "paused 'no way': must be true or false"),
    ],
)
def test_a_mistake_in_the_file_is_named_in_one_line(text: str, said: str) -> None:
    with pytest.raises(Fatal) as caught:
        read_subscriptions(text, "x")
    assert said in str(caught.value)
    assert str(caught.value).startswith("x")
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_all_actions_may_be_named() -> None:
    assert checked_actions(ACTIONS) == frozenset(ACTIONS)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("bank.example/hooks", "must be http://"),
        ("file:///etc/passwd", "must be http://"),
        ("https://", "must be http://"),
        ("https://a:b@bank.example/", "holds a user or password"),
        ("https://bank.example/#x", "a fragment"),
        ("https://bank.example/a b", "printable ASCII"),
        ("https://bänk.example/", "printable ASCII"),
        ("https://bank.example:99999/", "https://host"),
        ("https://[::1/", "https://host"),
        ("http://localhost:9/", "--allow-private"),
        ("http://127.0.0.1:9/", "--allow-private"),
        ("http://[::1]:9/", "--allow-private"),
        ("http://169.254.169.254/latest/meta-data", "no webhook may go there"),
        ("https://" + "x" * 2_000, "at most 2000"),
    ],
)
def test_a_url_that_may_not_be_called_is_refused(url: str, said: str) -> None:
    with pytest.raises(Fatal, match=r"^url ") as caught:
        target_of(url, private=False)
    assert said in str(caught.value)


def test_a_url_is_taken_apart() -> None:
    assert target_of("https://bank.example/h?x=1&y", private=False) == ("https", "bank.example", 443, "/h?x=1&y")
    assert target_of("http://bank.example:80", private=False).host_header == "bank.example"
    assert target_of("http://[::1]:9000/x", private=True).host_header == "[::1]:9000"


PRIVATE = ["127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fc00::1",
           "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"]  # fmt: skip
NEVER = ["169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1",
         "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"]  # fmt: skip


def test_addresses_are_told_apart_however_they_are_spelt() -> None:
    assert [host for host in ("8.8.8.8", "2606:4700::1", "64:ff9b::808:808", "bank.example") if
            refusal_of(host, private=False)] == []  # fmt: skip
    assert [host for host in PRIVATE if "--allow-private" not in refusal_of(host, private=False)] == []
    assert [host for host in PRIVATE if refusal_of(host, private=True)] == []
    assert [host for host in NEVER if "no webhook may go there" not in refusal_of(host, private=True)] == []


def test_the_file_is_its_owners_and_a_change_is_seen_once(tmp_path: Path) -> None:
    path = tmp_path / "webhooks.yaml"
    file = SubscriptionFile(path)
    assert file.changed() == Subscriptions()
    assert file.changed() is None
    change_subscriptions(path, lambda all_: all_.with_one(subscription()))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert file.changed() == Subscriptions((subscription(),))
    assert file.changed() is None
    path.write_text("{")
    with pytest.raises(Fatal, match="is no YAML"):
        file.changed()
    assert file.changed() is None, "said once, and what was in force stays"
    path.unlink()
    assert file.changed() == Subscriptions()


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "webhooks.yaml"
    change_subscriptions(path, lambda all_: all_.with_one(subscription()))
    path.chmod(0o644)
    with pytest.raises(Fatal, match="mode 0644 lets other users read or change secrets; chmod 600"):
        load_subscriptions(path)
