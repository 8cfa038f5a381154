"""The webhooks' own settings, from the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.mesh.settings import Environment
from services.mesh.topics import DAY_MS
from services.webhooks.circuit import FAILURES_MAX
from services.webhooks.schedule import Schedule

FILE_NAME: Final = "webhooks.yaml"  # in a data directory
_ATTEMPTS_MIN: Final = FAILURES_MAX + 1  # that a receiver is down is noticed before one decision is given up for it


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """Each with why its default."""

    file: Path
    at_once: int  # 16 requests of a receiver that needs 100 ms are 160 decisions a second
    timeout_s: float  # 10: a receiver that works longer had better answer first, and work then
    # 1, 2, 4, ... 512, 600 s at most between 12 attempts: 27 minutes for a decision that alone is not taken, during
    # which later ones of its customer wait. A day of no answer at all: a receiver that is down overnight loses nothing.
    schedule: Schedule
    ca_file: Path | None  # authorities of receivers (PEM), beside those that the machine trusts; most need none
    probes: Schedule  # while nothing is taken: soon again at first, and once a minute at least

    @classmethod
    def read(cls, environment: Environment) -> WebhookSettings:
        """From the environment; mistakes are collected by ``environment``."""
        first_s = environment.duration_ms("WEIR_WEBHOOKS_FIRST_WAIT", 1_000, 1, 60_000) / 1_000
        longest_s = environment.duration_ms("WEIR_WEBHOOKS_WAIT_MAX", 600_000, 1, 3_600_000) / 1_000
        probe_s = environment.duration_ms("WEIR_WEBHOOKS_PROBE_WAIT_MAX", 60_000, 1, 3_600_000) / 1_000
        attempts = environment.integer("WEIR_WEBHOOKS_ATTEMPTS_MAX", 12, _ATTEMPTS_MIN, 1_000)
        age_s = environment.duration_ms("WEIR_WEBHOOKS_AGE_MAX", DAY_MS, 1, 30 * DAY_MS) / 1_000
        schedule = Schedule(first_wait_s=first_s, wait_s_max=longest_s, attempts_max=attempts, age_s_max=age_s)
        ca_file = environment.text("WEIR_WEBHOOKS_CA_FILE", "")
        return cls(
            file=Path(environment.text("WEIR_WEBHOOKS_FILE", FILE_NAME)),
            ca_file=Path(ca_file) if ca_file else None,
            at_once=environment.integer("WEIR_WEBHOOKS_AT_ONCE", 16, 1, 256),
            timeout_s=environment.duration_ms("WEIR_WEBHOOKS_TIMEOUT", 10_000, 10, 60_000) / 1_000,
            schedule=schedule,
            probes=Schedule(first_wait_s=first_s, wait_s_max=probe_s, attempts_max=attempts, age_s_max=age_s),
        )
