"""The gateway's own settings, from the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from services.mesh.adapters.lookup_reader import LOOKUP_FILE
from services.mesh.records import Action
from services.mesh.settings import Environment
from services.mesh.topics import DATA_PARTITIONS_DEFAULT

DEADLINE_MS_MIN: Final = 10  # below a broker's answer nobody can wait for anything
DEADLINE_MS_MAX: Final = 30_000  # proxies give up after 60 s as a rule


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """Each with why its default."""

    host: str  # loopback: without a proxy that speaks TLS, tokens would be readable on the wire
    port: int
    tokens_file: Path
    lookup_file: Path  # the index of services/lookup
    partitions: int
    batch_events_max: int  # 500: acknowledged together in some milliseconds, and one slow item delays few others
    at_work_max: int  # 1,000 requests of 64 kB are 64 MB
    rate_per_token: float  # records a second; half of what a mesh on two cores sustains
    ack_wait_ms: int  # a broker that restarts is back in 4 s; who waits longer had better send it again
    deadline_ms: int  # of a decision, where the caller names none: three times the mesh's p99 under load
    fallback_action: str  # what to do meanwhile; challenge: neither lets fraud through nor turns customers away

    @classmethod
    def read(cls, environment: Environment) -> GatewaySettings:
        """From the environment; mistakes are collected by ``environment``."""
        return cls(
            host=environment.text("WEIR_GATEWAY_HOST", "127.0.0.1"),
            port=environment.integer("WEIR_GATEWAY_PORT", 8088, 0, 65_535),
            tokens_file=Path(environment.text("WEIR_TOKENS_FILE", "tokens.json")),
            lookup_file=Path(environment.text("WEIR_LOOKUP_FILE", LOOKUP_FILE)),
            partitions=environment.integer("WEIR_PARTITIONS", DATA_PARTITIONS_DEFAULT, 1, 1_024),
            batch_events_max=environment.integer("WEIR_BATCH_EVENTS_MAX", 500, 1, 10_000),
            at_work_max=environment.integer("WEIR_AT_WORK_MAX", 1_000, 1, 100_000),
            rate_per_token=environment.number("WEIR_RATE_PER_TOKEN", 2_000.0, 0.1, 1e6),
            ack_wait_ms=environment.duration_ms("WEIR_ACK_WAIT", 5_000, 10, 60_000),
            deadline_ms=environment.duration_ms("WEIR_DEADLINE", 1_000, DEADLINE_MS_MIN, DEADLINE_MS_MAX),
            fallback_action=environment.choice("WEIR_FALLBACK_ACTION", "challenge", get_args(Action)),
        )
