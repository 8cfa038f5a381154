"""Lookup's own settings, from the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.mesh.adapters.lookup_reader import LOOKUP_FILE
from services.mesh.settings import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupSettings:
    """Each with why its default."""

    file: Path  # beside the other files of a data directory, where `weir trace` looks for it

    @classmethod
    def read(cls, environment: Environment) -> LookupSettings:
        """From the environment; mistakes are collected by ``environment``."""
        return cls(file=Path(environment.text("WEIR_LOOKUP_FILE", LOOKUP_FILE)))
