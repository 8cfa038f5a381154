"""Which model scores a customer: by a bucket that only the customer id decides, today and in any replay."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

BUCKETS = 10_000  # one bucket is a hundredth of a percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A challenger and the number of buckets it scores, out of `BUCKETS`."""

    model_version: str
    buckets: int


def split_bucket(customer_id: str) -> int:
    """0 to 9,999; stable across processes, machines and releases (Python's own hash is none of these)."""
    digest = hashlib.blake2b(customer_id.encode("utf-8"), digest_size=8, person=b"weir-split").digest()
    return int.from_bytes(digest, "big") % BUCKETS


def model_for(bucket: int, champion: str, challengers: Sequence[Share]) -> str:
    """The model version that scores ``bucket``.

    Challengers take the buckets from the top down, in order, and the champion the rest: a share that grows keeps the
    customers it had. Shares add up to at most `BUCKETS` (checked where they are declared).
    """
    assert 0 <= bucket < BUCKETS, f"bucket={bucket}"
    assert sum(share.buckets for share in challengers) <= BUCKETS, "challengers take more than everything"
    first = BUCKETS
    for share in challengers:
        first -= share.buckets
        if bucket >= first:
            return share.model_version
    return champion
