"""Signatures of Standard Webhooks: who sent this, when, and that nobody changed it on the way. Pure.

The specification (Standard Webhooks 1.0.0): ``webhook-signature`` holds, divided by blanks, ``v1,`` and the base64 of
HMAC-SHA256 over ``id.timestamp.body``, one for each secret in force; a secret is ``whsec_`` and the base64 of its key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Final

from services.mesh.errors import Fatal

SECRET_PREFIX: Final = "whsec_"
# The specification asks for 24 to 64 bytes; 32 is what HMAC-SHA256 has use for.
KEY_BYTES: Final = 32
KEY_BYTES_MIN, KEY_BYTES_MAX = 24, 64
# Older or newer by more is refused by those who verify: a request that was overheard cannot be sent again for long.
TOLERANCE_S: Final = 300
_VERSION: Final = "v1"


def secret_of(key: bytes) -> str:
    """The key as people copy it."""
    return SECRET_PREFIX + base64.b64encode(key).decode()


def key_of(secret: str) -> bytes:
    """The key in ``secret``. Raises Fatal, which does not show it."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        raise Fatal(
            f"secret: must be {SECRET_PREFIX} and {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes in base64; "
            "`weir webhooks rotate NAME` makes one"
        )
    return key


def signed(keys: Iterable[bytes], message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The three headers of a request."""
    signatures = (f"{_VERSION},{signature(key, message_id, timestamp_s, body)}" for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(signatures),
    }


def signature(key: bytes, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Base64 of the code itself."""
    content = b"%b.%d.%b" % (message_id.encode(), timestamp_s, body)
    return base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def is_signed(keys: Iterable[bytes], headers: Mapping[str, str], body: bytes, now_s: float) -> bool:
    """Whether a request (header names in lower case) was signed by one of ``keys``, and lately."""
    try:
        message_id, timestamp_s = headers["webhook-id"], int(headers["webhook-timestamp"])
        given = [part.partition(",") for part in headers["webhook-signature"].split(" ")]
    except (KeyError, ValueError):
        return False
    if abs(now_s - timestamp_s) > TOLERANCE_S:
        return False
    wanted = [signature(key, message_id, timestamp_s, body).encode() for key in keys]
    return any(
        hmac.compare_digest(code.encode(), one) for version, _, code in given if version == _VERSION for one in wanted
    )
