"""Chance that is the same in every replay: numbers drawn from a hash of who is concerned. Pure."""

from __future__ import annotations

import hashlib


def drawn(salt: str, customer_id: str, event_id: str) -> float:
    """Return a number in [0, 1) fixed by the identity given, uniform over identities; the same in every replay."""
    digest = hashlib.blake2b(f"{salt}\0{customer_id}\0{event_id}".encode(), digest_size=7).digest()
    # 56 bits, of which a float holds 53: the next number below 1 is as far as rounding may go.
    return min(int.from_bytes(digest, "big") / 2**56, 1 - 2**-53)
