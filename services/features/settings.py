"""Features' own settings, from the environment."""

from __future__ import annotations

from dataclasses import dataclass

from services.mesh.settings import Environment
from services.mesh.topics import DATA_PARTITIONS_DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturesSettings:
    """Each with its unit and why its default."""

    view: str  # customer or terminal: which view this process keeps
    redis: str
    entities_max: int  # in memory; an entity with 60 kept events takes about 2.5 kB, so half a million 1.2 GB
    feature_wait_ms_max: int  # a payment waits about two seconds at the till; after that a stricter answer beats none
    partitions_expected: int  # over how many partitions entities_max is shared out

    @classmethod
    def read(cls, environment: Environment) -> FeaturesSettings:
        """From the environment; mistakes are collected by ``environment``."""
        return cls(
            view=environment.choice("WEIR_VIEW", "customer", ("customer", "terminal")),
            redis=environment.text("WEIR_REDIS", "redis://127.0.0.1:6379/0"),
            entities_max=environment.integer("WEIR_ENTITIES_MAX", 500_000, 1, 100_000_000),
            feature_wait_ms_max=environment.integer("WEIR_FEATURE_WAIT_MS_MAX", 2_000, 0, 60_000),
            partitions_expected=environment.integer("WEIR_PARTITIONS", DATA_PARTITIONS_DEFAULT, 1, 200),
        )
