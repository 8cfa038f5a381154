"""What one subscription tells the outside about itself: numbers, and a line where something begins or ends."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

from services.mesh.headers import find
from services.mesh.ports import Clock
from services.mesh.telemetry import StageTelemetry
from services.webhooks.desk import Desk, Settlement
from services.webhooks.verdict import Answer, Verdict


class Teller:
    """One subscription's; the numbers carry its name, which people chose."""

    def __init__(self, name: str, telemetry: StageTelemetry, clock: Clock) -> None:
        self._name, self._telemetry, self._clock = name, telemetry, clock

    def answered(self, answer: Answer, desk: Desk, *, was_open: bool) -> None:
        """A request has ended."""
        metrics = self._telemetry.metrics
        metrics.add("weir_webhook_attempts", 1, "no answer" if not answer.status else answer.verdict.value)
        metrics.observe("weir_webhook_seconds", answer.took_s)
        if answer.verdict is Verdict.TAKEN:
            metrics.add("weir_webhook_delivered", 1, self._name)
        if desk.circuit.is_open and not was_open:
            logging.warning("webhook=%s takes nothing, asking once in a while: %s", self._name, answer)
        elif was_open and not desk.circuit.is_open:
            logging.info("webhook=%s takes again", self._name)
        if answer.verdict is Verdict.GONE:
            said = f"webhook {self._name} is gone: {answer}; `weir webhooks change` or `resume` begins again"
            self._telemetry.health.last_error = said
            logging.error("%s", said)

    def settled(self, settlement: Settlement) -> None:
        """This is in the log now."""
        health, metrics = self._telemetry.health, self._telemetry.metrics
        health.batches += 1
        metrics.add("weir_batches", 1)
        codes = Counter((find(letter.headers[::-1], "error_code") or b"").decode() for letter in settlement.letters)
        metrics.add_all("weir_rejects", codes)
        for letter in settlement.letters:
            said = (find(letter.headers[::-1], "error_message") or b"").decode(errors="replace")
            logging.warning("webhook=%s dead letter: %s", self._name, said)

    def read(self, records: int) -> None:
        """So many decisions were read, wanted or not."""
        self._telemetry.health.records += records
        self._telemetry.metrics.add("weir_records", records)

    def stands(self, desk: Desk, ends: Mapping[int, int | None]) -> None:
        """How things stand now."""
        metrics, name = self._telemetry.metrics, self._name
        oldest_ms = desk.oldest_append_ms()
        age_s = 0.0 if oldest_ms is None else max(0.0, (self._clock.now_ms() - oldest_ms) / 1_000)
        positions = desk.positions()
        behind = sum(max(0, end - positions[partition]) for partition, end in ends.items() if end is not None)
        metrics.set("weir_webhook_lag", behind + desk.waiting, name)
        metrics.set("weir_webhook_age_seconds", age_s, name)
        metrics.set("weir_webhook_down", float(desk.circuit.is_open or desk.gone is not None), name)

    def reopened(self, error: BaseException) -> None:
        """The connection to the log was given up."""
        self._telemetry.reopened(f"webhook {self._name}: {error!r}")

    def ended(self) -> None:
        """The subscription is no longer served: nothing is late."""
        for name in ("weir_webhook_lag", "weir_webhook_age_seconds", "weir_webhook_down"):
            self._telemetry.metrics.set(name, 0.0, self._name)
