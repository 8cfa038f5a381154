"""Which models should serve and run beside: the registry as the journal has it, less what verification refused. Pure.

The latest promotion serves; when it is refused or retired, the one before it, and so on down to ``bootstrap``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.mesh.bundle_parts import Bundle
from services.mesh.model_registry import Canary, Registry
from services.mesh.records import ModelRelease


@dataclass(slots=True)
class Roster:
    """State of the journal so far, and of our own trials."""

    registry: Registry = field(default_factory=Registry)
    refused: set[str] = field(default_factory=set)

    @property
    def bundles(self) -> dict[str, Bundle]:
        """Released bundles by version."""
        return self.registry.bundles

    def apply(self, release: ModelRelease) -> str:
        """Take one release into account, in the order of the journal; why it is void, empty when it holds."""
        why_void = self.registry.apply(release)
        if release["model"] and not why_void:
            self.refused.discard(release["model_version"])
        self.refused &= self.registry.bundles.keys()
        return why_void

    def refuse(self, version: str) -> None:
        """Verification said no: the version does not count until it is released anew."""
        self.refused.add(version)

    def champion(self) -> str | None:
        """The version that should serve; None: bootstrap."""
        standing = [v for v in self.registry.promoted if v not in self.refused]
        return standing[-1] if standing else None

    def beside(self) -> list[str]:
        """The versions that should run beside, the canary among them."""
        champion = self.champion()
        return [v for v in self.registry.running if v not in self.refused and v != champion]

    def canary(self) -> Canary | None:
        """The version that should serve a share of the customers."""
        canary = self.registry.canary
        return canary if canary is not None and canary.model_version in self.beside() else None
