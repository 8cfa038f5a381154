"""The models' frozen references, and which model should serve since when, from ``models.v1``. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.mesh.manifest import ManifestError, parse
from services.mesh.model_registry import BOOTSTRAP, Registry
from services.mesh.records import ModelRelease
from services.mesh.reference import Reference

MODELS_KEPT = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """What drift needs of one version."""

    version: str
    created_event_time_ms: int
    feature_names: tuple[str, ...]
    reference: Reference | None


class Models:
    """Every version seen, and the champion. Signatures are scoring's business: what is not served is never compared."""

    def __init__(self) -> None:
        self._registry = Registry()
        self._known: dict[str, KnownModel] = {}
        self.champion_since_ms = 0

    def add(self, release: ModelRelease) -> str:
        """Take one release; what is wrong with its manifest, empty when nothing is."""
        before, flaw = self.champion, ""
        if release["manifest"]:
            try:
                manifest = parse(release["manifest"].encode())
                self._known[release["model_version"]] = KnownModel(
                    version=release["model_version"],
                    created_event_time_ms=manifest.created_event_time_ms,
                    feature_names=manifest.feature_names,
                    reference=manifest.reference,
                )
            except ManifestError as error:
                flaw = str(error)
        self._registry.apply(release)
        if self.champion != before:
            self.champion_since_ms = release["event_time_ms"]
        while len(self._known) > MODELS_KEPT:
            del self._known[next(iter(self._known))]
        return flaw

    @property
    def champion(self) -> str:
        """The version that should serve; ``bootstrap`` before the first."""
        return self._registry.champion

    @property
    def is_bootstrap(self) -> bool:
        """No model was ever promoted."""
        return self.champion == BOOTSTRAP

    def get(self, version: str) -> KnownModel | None:
        """What is known of ``version``."""
        return self._known.get(version)
