"""What the log holds to learn from: recorded vectors (``features.v1``) and outcomes (``outcomes.raw.v1``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from services.mesh.adapters.kafka_follower import TopicFollower
from services.mesh.codec import HEADER_BYTES, Codec
from services.mesh.errors import Poison
from services.mesh.topics import FEATURES, OUTCOMES_RAW
from services.retraining.dataset import Recorded, join

_INEXACT = frozenset({"stale", "fallback"})


@dataclass(slots=True)
class Outcomes:
    """Labels seen so far, one entry an outcome."""

    identities: list[str] = field(default_factory=list)
    fraud: list[bool] = field(default_factory=list)
    observed_ms: list[int] = field(default_factory=list)
    unreadable: int = 0

    def take(self, value: bytes, codec: Codec) -> None:
        """Add one outcome; one that cannot be read is counted and left out."""
        try:
            outcome: Any = codec.decode(value) if value[:1] == b"\x00" else orjson.loads(value)
            identity = identity_text(outcome["customer_id"], outcome["event_id"])
            label, observed_ms = outcome["label"], outcome["observed_time_ms"]
        except (Poison, ValueError, KeyError, TypeError):
            self.unreadable += 1
            return
        if label not in ("fraud", "genuine") or not isinstance(observed_ms, int):
            self.unreadable += 1
            return
        self.identities.append(identity)
        self.fraud.append(label == "fraud")
        self.observed_ms.append(observed_ms)


@dataclass(slots=True)
class Vectors:
    """Vectors seen so far."""

    identities: list[str] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)
    event_time_ms: list[int] = field(default_factory=list)
    exact: list[bool] = field(default_factory=list)

    def take(self, value: bytes, codec: Codec, feature_set: str) -> None:
        """Add one event's vector, unless another feature set made it."""
        if len(value) < HEADER_BYTES:
            return
        event = codec.decode(value)
        if event["feature_set"] != feature_set:
            return
        self.identities.append(identity_text(event["customer_id"], event["event_id"]))
        self.rows.append(event["vector"])
        self.event_time_ms.append(event["event_time_ms"])
        self.exact.append(event["feature_status"] not in _INEXACT)


def identity_text(customer_id: str, event_id: str) -> str:
    """An event's identity as one text."""
    return f"{len(customer_id)}:{customer_id}{event_id}"


def recorded_of(vectors: Vectors, outcomes: Outcomes, features: int) -> Recorded:
    """Vectors with their labels, shapes as in ``Recorded``. Raises TrainingRefused."""
    joined = join(
        vectors.identities,
        outcomes.identities,
        np.array(outcomes.fraud, dtype=np.bool_),
        np.array(outcomes.observed_ms, dtype=np.int64),
    )
    return Recorded(
        rows=np.frombuffer(b"".join(vectors.rows), dtype=np.float32).reshape(-1, features),
        event_time_ms=np.array(vectors.event_time_ms, dtype=np.int64),
        label=joined.label,
        observed_ms=joined.observed_ms,
        exact=np.array(vectors.exact, dtype=np.bool_),
    )


def followers(bootstrap: str) -> tuple[TopicFollower, TopicFollower]:
    """Of vectors and of outcomes."""
    vectors, outcomes = FEATURES.name, OUTCOMES_RAW.name
    return (
        TopicFollower(bootstrap, vectors, f"retraining.{vectors}"),
        TopicFollower(bootstrap, outcomes, f"retraining.{outcomes}"),
    )
