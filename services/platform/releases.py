"""What was put in force on ``models.v1``, and why."""

from __future__ import annotations

from services.mesh.adapters.kafka_journal import KafkaJournal
from services.mesh.codec import Codec
from services.mesh.model_registry import Registry
from services.mesh.topics import MODELS


def promoted_models(bootstrap: str) -> dict[str, str]:
    """Model version -> why it serves: promoted, brought back, or tried on some customers. Raises Transient."""
    journal, codec = KafkaJournal(bootstrap, MODELS.name, "weir.up.models"), Codec("model_release.v1.avsc")
    try:
        releases = [codec.decode(record.value) for record in journal.read_to_end()]
    finally:
        journal.close()
    registry, reasons = Registry(), {}
    for release in releases:
        why_void = registry.apply(release)  # type: ignore[arg-type]
        if not why_void and release["move"] in ("promote", "rollback", "canary"):
            reasons[release["model_version"]] = release["why"]
    return reasons
