"""Signatures: the specification's own example, rotation, and what is refused. The receiver that users copy agrees."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mesh.errors import Fatal
from services.webhooks.signature import KEY_BYTES_MAX, KEY_BYTES_MIN, TOLERANCE_S, is_signed, key_of, secret_of, signed
from services.webhooks.subscription import Secret, Subscription

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW_S = 1_614_265_330
KEYS = st.binary(min_size=KEY_BYTES_MIN, max_size=KEY_BYTES_MAX)


def reference_receiver() -> ModuleType:
    path = Path(__file__).parents[3] / "infra/consumers/webhook_receiver.py"
    spec = importlib.util.spec_from_file_location("webhook_receiver", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


RECEIVER: Any = reference_receiver()


def test_the_example_of_the_specification() -> None:
    headers = signed([key_of(SECRET)], "msg_p5jXN8AQM9LWM0D4loKWxJek", NOW_S, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(KEYS, KEYS, st.text("abc_", min_size=1), st.binary())
def test_who_has_one_of_the_secrets_believes_it_and_nobody_else(
    ours: bytes, other: bytes, name: str, body: bytes
) -> None:
    headers = signed([ours], name, NOW_S, body)
    both = signed([other, ours], name, NOW_S, body)
    for checks in (
        lambda keys, told, said, now_s: is_signed(keys, told, said, now_s),
        lambda keys, told, said, now_s: RECEIVER.is_genuine(told, said, [secret_of(key) for key in keys], now_s),
    ):
        assert checks([ours], headers, body, NOW_S)
        assert checks([ours], both, body, NOW_S + TOLERANCE_S)
        assert checks([other], both, body, NOW_S - TOLERANCE_S)
        assert checks([other], headers, body, NOW_S) == (other == ours)
        assert not checks([ours], headers, body + b"x", NOW_S)
        assert not checks([ours], headers | {"webhook-id": name + "x"}, body, NOW_S)
        assert not checks([ours], headers | {"webhook-timestamp": str(NOW_S + 1)}, body, NOW_S)
        assert not checks([ours], headers, body, NOW_S + TOLERANCE_S + 1)
        assert not checks([ours], {}, body, NOW_S)
        assert not checks([], headers, body, NOW_S)


@pytest.mark.parametrize("header", ["", "v1", "v2,abc", "v1,ä", "v1,", ",,,"])
def test_a_signature_that_is_none_is_refused(header: str) -> None:
    headers = signed([key_of(SECRET)], "m", NOW_S, b"") | {"webhook-signature": header}
    assert not is_signed([key_of(SECRET)], headers, b"", NOW_S)
    assert not RECEIVER.is_genuine(headers, b"", [SECRET], NOW_S)


@given(KEYS)
def test_a_secret_is_its_key(key: bytes) -> None:
    assert key_of(secret_of(key)) == key


@pytest.mark.parametrize("secret", ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!!", "whsec_QUJD"])
def test_a_secret_that_is_none_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(Fatal, match="weir webhooks rotate NAME") as caught:
        key_of(secret)
    assert not secret or secret not in str(caught.value).replace("must be whsec_", "")


def test_two_secrets_sign_while_one_replaces_the_other() -> None:
    one = Subscription(
        name="a", url="https://a.example/", actions=frozenset({"decline"}), secrets=(Secret(text=SECRET),),
        created_ms=1, since_ms=1, changed_ms=1,
    )  # fmt: skip
    new, newest = secret_of(b"n" * 32), secret_of(b"m" * 32)
    two = one.rotated(new, now_ms=1_000, overlap_ms=500)
    assert two.keys(1_499) == [key_of(new), key_of(SECRET)]
    assert two.keys(1_500) == [key_of(new)]
    three = two.rotated(newest, now_ms=1_200, overlap_ms=10_000)
    assert three.keys(1_499) == [key_of(newest), key_of(new), key_of(SECRET)], "rotating anew prolongs no old secret"
    assert three.keys(1_500) == [key_of(newest), key_of(new)]
    assert two.rotated(newest, now_ms=1_200, overlap_ms=0).keys(1_200) == [key_of(newest)]
    assert SECRET not in repr(three)
