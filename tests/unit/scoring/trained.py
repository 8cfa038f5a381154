"""A small real model, built and signed by the trainer, and ways to damage it. Not a test."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.mesh.bundle import sha256, sign, verify
from services.mesh.bundle_parts import Bundle
from services.mesh.manifest import Manifest
from services.retraining.build import Identity, build
from services.retraining.dataset import Horizon, Recorded
from services.retraining.train import Settings

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = [KEY.public_key()]
FEATURE_SET = "fs-1"
NAMES = ("amount", "is_night", "customer_count_1d", "terminal_fraud_rate_7d")
HOUR_MS = 3_600_000
ROWS = 6_000


def vectors(seed: int, rows: int = ROWS) -> npt.NDArray[np.float32]:
    """float32, shape (rows, 4): a skewed amount, a flag, a count, a share."""
    rng = np.random.default_rng(seed)
    columns = (rng.lognormal(3, 1, rows), rng.random(rows) < 0.3, rng.poisson(3, rows), rng.beta(0.2, 2, rows))
    return np.column_stack(columns).astype(np.float32)


def recorded(seed: int = 1) -> Recorded:
    """One event an hour; large amounts and bad terminals are often fraud; labels come after a day."""
    rows = vectors(seed)
    rng = np.random.default_rng(seed + 1_000)
    log_odds = -6 + 0.03 * rows[:, 0] + 4 * rows[:, 3] + rows[:, 1]
    label = (rng.random(ROWS) < 1 / (1 + np.exp(-log_odds))).astype(np.int8)
    # A missing amount is as harmless as a small one, so that missing values go left at some splits.
    harmless = np.arange(ROWS) % 9 == 0
    rows[harmless, 0], label[harmless] = np.nan, 0
    time_ms = np.arange(ROWS, dtype=np.int64) * HOUR_MS
    return Recorded(
        rows=rows,
        event_time_ms=time_ms,
        label=label,
        observed_ms=time_ms + 24 * HOUR_MS,
        exact=np.ones(ROWS, np.bool_),
        weight=np.ones(ROWS, np.float32),
        held_out=np.zeros(ROWS, np.bool_),
    )


@cache
def trained(version: str = "m1", seed: int = 1, trees: int = 40) -> tuple[Bundle, Manifest]:
    """A verified bundle and its manifest."""
    bundle = build(
        recorded(seed),
        Identity(
            model_version=version,
            feature_set=FEATURE_SET,
            feature_names=NAMES,
            fallback_feature_names=NAMES[:2],
            code_version="test",
        ),
        ROWS * HOUR_MS,
        Horizon(label_delay_ms=24 * HOUR_MS, validation_ms=1_500 * HOUR_MS, genuine_after_ms=None),
        Settings(trees=trees),
        KEY,
    )
    return bundle, verify(bundle, PUBLIC, FEATURE_SET, NAMES)


def resigned(manifest: Manifest, model: bytes, fallback: bytes) -> tuple[Bundle, Manifest]:
    """What a broken trainer that holds the key would publish: these bytes, validly signed."""
    claimed = dataclasses.replace(manifest, model_sha256=sha256(model), fallback_sha256=sha256(fallback))
    bundle = sign(claimed, model, fallback, KEY)
    return bundle, verify(bundle, PUBLIC, FEATURE_SET, NAMES)


def with_first(model: bytes, array: bytes, value: int) -> bytes:
    """UBJSON of ``model`` with element 0 of the first int32 array of that name replaced."""
    at = model.index(b"[$l#L", model.index(array)) + len(b"[$l#L") + 8
    return model[:at] + value.to_bytes(4, "big", signed=True) + model[at + 4 :]
