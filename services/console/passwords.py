"""Passwords as they are stored: scrypt with its parameters and a salt of its own, compared in constant time. Pure.

Parameters after OWASP's Password Storage Cheat Sheet, which holds N=2^15, r=8, p=3 equal to N=2^17, r=8, p=1:
a third of a second of one core, with 32 MB instead of 128.
"""

from __future__ import annotations

import hashlib
import hmac
import re

LENGTH_MIN = 12  # NIST SP 800-63B asks for 8 at least; nobody here types it often
LENGTH_MAX = 256
SALT_BYTES = 16
_N_LOG2, _R, _P = 15, 8, 3
_HASH_BYTES = 32
_STORED = re.compile(r"scrypt\$(\d{1,2})\$(\d{1,2})\$(\d{1,2})\$([0-9a-f]{32})\$([0-9a-f]{64})")


def flaw_of(password: str, name: str) -> str:
    """Why ``password`` may not be one; empty when it may."""
    if len(password) < LENGTH_MIN:
        return f"a password has at least {LENGTH_MIN} characters; this one has {len(password)}"
    if len(password) > LENGTH_MAX:
        return f"a password has at most {LENGTH_MAX} characters; this one has {len(password)}"
    if len(set(password)) < LENGTH_MIN // 2 or name.lower() in password.lower():
        return "too easy to guess: it repeats itself, or holds the user's name; choose another"
    return ""


def stored_form(password: str, salt: bytes) -> str:
    """What a file keeps of ``password``: nobody can read it back. ``salt``: 16 random bytes."""
    digest = _digest(password, salt, _N_LOG2, _R, _P)
    return f"scrypt${_N_LOG2}${_R}${_P}${salt.hex()}${digest.hex()}"


def is_right(password: str, stored: str) -> bool:
    """Whether ``stored`` was made from ``password``."""
    match = _STORED.fullmatch(stored)
    if match is None or len(password) > LENGTH_MAX:
        return False
    n_log2, r, p, salt, digest = match.groups()
    found = _digest(password, bytes.fromhex(salt), int(n_log2), int(r), int(p))
    return hmac.compare_digest(found, bytes.fromhex(digest))


# Compared with when there is no such user, so that the answer takes as long.
NOBODY = f"scrypt${_N_LOG2}${_R}${_P}${'00' * SALT_BYTES}${'00' * _HASH_BYTES}"


def _digest(password: str, salt: bytes, n_log2: int, r: int, p: int) -> bytes:
    n = 1 << n_log2
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=_HASH_BYTES)
