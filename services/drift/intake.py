"""Bytes into the monitor: each record once, in the order of its partition; poison is counted, named and skipped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from services.drift.monitor import Monitor
from services.mesh.codec import Codec, schema
from services.mesh.errors import Poison
from services.mesh.excerpt import Excerpt
from services.mesh.telemetry import StageTelemetry
from services.mesh.topics import LABELS, MODELS, PROFILES

READ = (PROFILES, LABELS, MODELS)
_LABEL_FIELDS = (
    "event_id",
    "customer_id",
    "event_time_ms",
    "score",
    "model_version",
    "label",
    "label_version",
    "label_source",
    "observed_time_ms",
    "label_age_ms",
)


class Record(NamedTuple):
    """What drift needs of a record, whoever read it."""

    topic: str
    partition: int
    offset: int
    value: bytes | None


class Intake:
    """Hands records to a monitor. ``taken``: (topic, partition) -> offset taken last; a record is not taken twice."""

    def __init__(self, monitor: Monitor, telemetry: StageTelemetry) -> None:
        self.monitor = monitor
        self.taken: dict[tuple[str, int], int] = {}
        self._telemetry = telemetry
        labels = schema(LABELS.schemas[0])
        order = [field["name"] for field in labels.fields if field["name"] in _LABEL_FIELDS]
        self._label = Excerpt(labels, order)
        self._profile, self._release = Codec(PROFILES.schemas[0]), Codec(MODELS.schemas[0])
        self._takers: dict[str, Callable[[bytes | None], None]] = {
            PROFILES.name: self._take_profile,
            LABELS.name: self._take_label,
            MODELS.name: self._take_release,
        }

    def take(self, record: Record) -> None:
        """Take one record; one that cannot be read changes nothing but a counter."""
        where = record.topic, record.partition
        if record.offset <= self.taken.get(where, -1):
            self._telemetry.metrics.add("weir_repeats", 1)
            return
        try:
            self._takers[record.topic](record.value)
        except (Poison, ValueError) as error:
            code = error.code.value if isinstance(error, Poison) else "undecodable"
            self._telemetry.metrics.add("weir_rejects", 1, code)
            logging.error("%s[%d]@%d skipped: %s", *where, record.offset, error)
        self.taken[where] = record.offset
        self._telemetry.health.records += 1

    def _take_profile(self, value: bytes | None) -> None:
        profile: Any = self._profile.decode(value)
        if not self.monitor.take_profile(profile):
            self._telemetry.metrics.add("weir_repeats", 1)

    def _take_label(self, value: bytes | None) -> None:
        label: Any = self._label.record(value)
        self.monitor.take_label(label)

    def _take_release(self, value: bytes | None) -> None:
        release: Any = self._release.decode(value)
        if flaw := self.monitor.take_release(release):
            logging.error("model %s has no manifest to compare with: %s", release["model_version"], flaw)
