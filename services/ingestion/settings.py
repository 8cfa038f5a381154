"""What ingestion is told from outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from services.ingestion.capacity import BUCKETS, OPEN_BYTES_MAX
from services.ingestion.event_clock import ClockRules
from services.mesh.settings import Environment
from services.mesh.topics import DATA_PARTITIONS_DEFAULT, DATA_RETENTION_MS, LOOP_RETENTION_MS

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
# An outcome may be told weeks after it was observed: files of chargebacks come monthly, and are sent again when one was
# lost. Outcomes are a hundredth of the events, so a month and a half of them costs what an hour of events does.
_OUTCOME_LATENESS_MS: Final = 45 * _DAY_MS

Door = Literal["events", "outcomes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestionSettings:
    """Read once at start."""

    rules: ClockRules
    redis: str
    door: Door = "events"  # which of the two raw topics this process judges
    partitions: int  # of the data topics; decides which partition owns a customer, so it must be the truth
    seen_memory_bytes: int  # what the printed capacity is worked out from
    schema_registry: str  # Confluent API; asked at start which schemas senders may write with

    @classmethod
    def read(cls, environment: Environment) -> IngestionSettings:
        """From the environment; mistakes are collected by ``environment``."""
        door = environment.choice("WEIR_INTAKE", "events", get_args(Door))
        partitions = environment.integer("WEIR_PARTITIONS", DATA_PARTITIONS_DEFAULT, minimum=1, maximum=200)
        rules = _outcome_rules(environment) if door == "outcomes" else _event_rules(environment)
        if rules.jump_ms < rules.lateness_ms:
            environment.refuse(
                f"WEIR_CLOCK_JUMP_MAX is {rules.jump_ms} ms and WEIR_LATENESS {rules.lateness_ms} ms: one allowed jump "
                "would not even make an event late; let the jump be at least the lateness"
            )
        return cls(
            door="outcomes" if door == "outcomes" else "events",
            rules=rules,
            redis=environment.text("WEIR_REDIS", "redis://127.0.0.1:6379/0"),
            partitions=partitions,
            schema_registry=environment.text("WEIR_SCHEMA_REGISTRY", "http://127.0.0.1:8081"),
            # 512 MiB carry 3,000 events/s at the default lateness, a whole machine's share.
            seen_memory_bytes=environment.size_bytes(
                "WEIR_SEEN_MEMORY", 512 << 20, minimum=partitions * OPEN_BYTES_MAX + (1 << 20), maximum=1 << 40
            ),
        )


def _event_rules(environment: Environment) -> ClockRules:
    defaults = ClockRules()
    return ClockRules(
        # More lateness costs memory for every event; the log cannot give back what it no longer keeps.
        lateness_ms=environment.duration_ms(
            "WEIR_LATENESS", defaults.lateness_ms, minimum=BUCKETS, maximum=min(7 * _DAY_MS, DATA_RETENTION_MS)
        ),
        ahead_ms=environment.duration_ms("WEIR_CLOCK_AHEAD_MAX", defaults.ahead_ms, minimum=0, maximum=_DAY_MS),
        jump_ms=environment.duration_ms("WEIR_CLOCK_JUMP_MAX", defaults.jump_ms, minimum=60_000, maximum=366 * _DAY_MS),
    )


def _outcome_rules(environment: Environment) -> ClockRules:
    """For outcomes the clock runs on ``observed_time_ms``: how late one is has nothing to do with its event's age.

    Observations are rare, so days may pass between two of a partition: a jump is what would make others late.
    """
    lateness_ms = environment.duration_ms(
        "WEIR_OUTCOME_LATENESS", _OUTCOME_LATENESS_MS, minimum=BUCKETS, maximum=LOOP_RETENTION_MS
    )
    return ClockRules(
        lateness_ms=lateness_ms,
        ahead_ms=environment.duration_ms("WEIR_CLOCK_AHEAD_MAX", ClockRules().ahead_ms, minimum=0, maximum=_DAY_MS),
        jump_ms=lateness_ms,
        field="observed_time_ms",
        setting="WEIR_OUTCOME_LATENESS",
    )
