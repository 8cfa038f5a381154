"""Which models should serve and run beside, folded from the releases of ``models.v1``. Pure.

The latest promotion serves; when it is refused or retired, the one before it, and so on down to ``bootstrap``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.mesh.bundle import Bundle
from services.mesh.records import ModelRelease

# Each challenger costs a whole pass over every batch.
CHALLENGERS_MAX = 3


@dataclass(slots=True)
class Roster:
    """State of the journal so far."""

    bundles: dict[str, Bundle] = field(default_factory=dict)
    promoted: list[str] = field(default_factory=list)  # oldest first, each version once
    challengers: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    def apply(self, release: ModelRelease) -> None:
        """Take one release into account, in the order of the journal."""
        version = release["model_version"]
        self.promoted = [v for v in self.promoted if v != version]
        self.challengers = [v for v in self.challengers if v != version]
        if release["move"] == "retire":
            self.bundles.pop(version, None)
            return
        if release["model"]:
            self.bundles[version] = Bundle(
                manifest=release["manifest"].encode(),
                signature=release["signature"],
                model=release["model"],
                fallback=release["fallback_model"],
            )
            self.refused.discard(version)
        if release["move"] == "promote":
            self.promoted.append(version)
        else:
            self.challengers = [*self.challengers, version][-CHALLENGERS_MAX:]

    def refuse(self, version: str) -> None:
        """Verification said no: the version does not count until it is released anew."""
        self.refused.add(version)

    def champion(self) -> str | None:
        """The version that should serve; None: bootstrap."""
        standing = [v for v in self.promoted if v not in self.refused and v in self.bundles]
        return standing[-1] if standing else None

    def beside(self) -> list[str]:
        """The versions that should run beside."""
        return [v for v in self.challengers if v not in self.refused and v in self.bundles]
