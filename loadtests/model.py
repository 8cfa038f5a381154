"""A model for the load: trained as any is, on what the mesh has just put into ``features.v1``, and released.

What it learns is of no matter here, what it costs is: the usual 100 trees over the real columns, and about one event in
a hundred that is worth explaining. So its labels are made up: the highest hundredth of amounts is called fraud.
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.mesh.adapters.kafka_append import append
from services.mesh.adapters.kafka_reader import KafkaReader
from services.mesh.codec import Codec
from services.mesh.errors import Fatal
from services.mesh.feature_set import pinned_feature_set
from services.mesh.topics import FEATURES, MODELS
from services.retraining.build import Identity, build
from services.retraining.dataset import Horizon, Recorded
from services.retraining.train import Settings

VERSION = "loadtest"
FRAUD_SHARE = 0.01
# A third of them validates, and frauds_min of Horizon must be in it.
EVENTS_MIN = 24_000
_EVERYTHING = 1 << 62


def release(kafka: str, partitions: int, key: Ed25519PrivateKey) -> None:
    """Train on all of ``features.v1`` and promote; Fatal when there is too little to learn from."""
    features = pinned_feature_set()
    codec = Codec(FEATURES.schemas[0])
    reader = KafkaReader(kafka, FEATURES.name, "loadtests.model")
    events = [
        codec.decode(record.value)
        for partition in range(partitions)
        for records in reader.read(partition, 0, _EVERYTHING)
        for record in records
    ]
    if len(events) < EVENTS_MIN:
        raise Fatal(f"{FEATURES.name} holds {len(events):,} events: a model for the load needs {EVENTS_MIN:,}")
    time_ms = np.array([event["event_time_ms"] for event in events], dtype=np.int64)
    amounts = np.array([event["amount_minor"] for event in events])
    first_ms, newest_ms = int(time_ms.min()), int(time_ms.max())
    recorded = Recorded(
        rows=np.frombuffer(b"".join(event["vector"] for event in events), dtype=np.float32).reshape(len(events), -1),
        event_time_ms=time_ms,
        label=(amounts > np.quantile(amounts, 1 - FRAUD_SHARE)).astype(np.int8),
        observed_ms=time_ms,
        exact=np.ones(len(events), dtype=np.bool_),
        weight=np.ones(len(events), dtype=np.float32),
    )
    identity = Identity(
        model_version=VERSION,
        feature_set=features.content_hash,
        feature_names=features.names,
        fallback_feature_names=tuple(features.names[i] for i in features.event_only),
        code_version=VERSION,
    )
    horizon = Horizon(label_delay_ms=0, validation_ms=(newest_ms - first_ms) // 3, genuine_after_ms=None)
    bundle = build(recorded, identity, newest_ms, horizon, Settings(), key)
    promotion = {
        "model_version": VERSION,
        "move": "promote",
        "why": "the load test's own",
        "event_time_ms": newest_ms,
        "manifest": bundle.manifest.decode(),
        "signature": bundle.signature,
        "model": bundle.model,
        "fallback_model": bundle.fallback,
        "actor": "loadtests",
        "expects": None,
        "canary_percent": 0,
        "evidence": "{}",
    }
    append(kafka, MODELS, VERSION, Codec(MODELS.schemas[0]).encode(promotion))
