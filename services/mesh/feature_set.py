"""The feature set as everybody but ``features`` needs it: its content hash and the names of its columns.

Pinned in ``schemas/payments/feature_set.json`` (``weir features names --pin`` writes it), because services never import
each other; ``tests/contracts`` says when it differs from ``features.yaml``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib.resources import files
from struct import iter_unpack

PINNED = "payments/feature_set.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSetPin:
    """What a vector's columns are."""

    name: str
    content_hash: str
    names: tuple[str, ...]
    event_only: tuple[int, ...]  # columns that need the event alone, for the fallback model


def pinned_feature_set() -> FeatureSetPin:
    """The feature set that this code was built with."""
    pinned = json.loads(files("schemas").joinpath(PINNED).read_text())
    return FeatureSetPin(
        name=pinned["name"],
        content_hash=pinned["content_hash"],
        names=tuple(pinned["names"]),
        event_only=tuple(pinned["event_only"]),
    )


def values_of(vector: bytes) -> list[float | None]:
    """A packed vector, or its beginning, as numbers; NaN, which means missing, as None."""
    whole = vector[: len(vector) - len(vector) % 4]
    return [None if math.isnan(value) else value for (value,) in iter_unpack("<f", whole)]
