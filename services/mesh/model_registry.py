"""Which models serve, run beside and try out, folded from the journal ``models.v1``. Pure.

The topic is the registry: append-only, one partition, so its order is everybody's order. A move names the champion that
it expects (compare-and-set); one that finds another champion is void. So is one that brings other bytes for a version
that is known: a version is its bytes, or two processes could serve two models under one name. Scoring, the controller
and the command line fold the same records with this one function, so they agree on every move without asking each
other.

    promoted   who served, oldest first; the last one is the champion, and the one before it takes over should the
               champion turn out not to load
    canary     serves a share of the customers, the champion the others
    beside     scores every event and decides none
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.mesh.bundle_parts import Bundle
from services.mesh.records import ModelMove, ModelRelease

BOOTSTRAP = "bootstrap"  # the champion before the first promotion: the declared prior
# Each model beside costs a whole pass over every batch. One place is for the champion before, three for challengers:
# labels take a week, so a weekly challenger is still on trial when the next two arrive.
BESIDE_MAX = 4
# Bundles are half a megabyte: a scorer that ran for years holds the last few, and a rollback further back brings its
# bundle with it (``weir models rollback`` does).
BUNDLES_MAX = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A version that serves ``percent`` of the customers, 1 to 100."""

    model_version: str
    percent: int


@dataclass(slots=True)
class Registry:
    """The journal so far."""

    bundles: dict[str, Bundle] = field(default_factory=dict)  # by version, least recently named first
    promoted: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)  # oldest first, at most BESIDE_MAX
    canary: Canary | None = None

    @property
    def champion(self) -> str:
        """The version that should serve; BOOTSTRAP before the first promotion."""
        return self.promoted[-1] if self.promoted else BOOTSTRAP

    @property
    def running(self) -> list[str]:
        """Versions that score besides the champion, the canary first."""
        trying = [self.canary.model_version] if self.canary else []
        return [*trying, *(v for v in self.beside if v not in trying)]

    def apply(self, release: ModelRelease) -> str:
        """Take one release into account, in the order of the journal; why it is void, empty when it holds."""
        why_void = self._flaw(release)
        if why_void:
            return why_void
        version, move = release["model_version"], release["move"]
        self._keep(version, release)
        match move:
            case "promote":
                self._leave(version)
                self.promoted = [*(v for v in self.promoted if v != version), version]
            case "rollback":
                self._leave(version)
                earlier = self.promoted[: self.promoted.index(version)] if version in self.promoted else self.promoted
                self.promoted = [*earlier, version]
            case "challenge":
                self._leave(version)
                self.beside = [*self.beside, version][-BESIDE_MAX:]
            case "canary":
                self._leave(version)
                self.canary = Canary(model_version=version, percent=release["canary_percent"])
            case "retire":
                self._leave(version)
                self.promoted = [v for v in self.promoted if v != version]
                self.bundles.pop(version, None)
            case "note":
                pass
        self._forget()
        return ""

    def _flaw(self, release: ModelRelease) -> str:
        version, move, expects = release["model_version"], release["move"], release["expects"]
        if move == "note":
            return ""
        if expects is not None and expects != self.champion:
            return f"expects {expects} to serve, {self.champion} does"
        if move != "retire" and not release["model"] and version not in self.bundles:
            return f"{version} is not known here, and the move brings no bundle"
        known, brought = self.bundles.get(version), bundle_of(release)
        if move != "retire" and known is not None and brought is not None and brought != known:
            return f"{version} was released with other bytes; give these a version of their own, or retire it first"
        if move in ("challenge", "canary") and version == self.champion:
            return f"{version} serves already"
        if move == "canary" and not 1 <= release["canary_percent"] <= 100:
            return f"canary_percent={release['canary_percent']}: must be 1 to 100"
        return ""

    def _keep(self, version: str, release: ModelRelease) -> None:
        if release["move"] in ("note", "retire"):
            return
        known = self.bundles.pop(version, None)
        released = known or bundle_of(release)  # the same bytes, and who holds the first ones sees that
        assert released is not None
        self.bundles[version] = released

    def _leave(self, version: str) -> None:
        """Take ``version`` out of what runs beside the champion; who is promoted or rolled back leaves no other."""
        self.beside = [v for v in self.beside if v != version]
        if self.canary is not None and self.canary.model_version == version:
            self.canary = None

    def _forget(self) -> None:
        """Drop the bundles that were named longest ago, never one that runs."""
        in_use = {self.champion, *self.running}
        for version in [v for v in self.bundles if v not in in_use][: max(0, len(self.bundles) - BUNDLES_MAX)]:
            del self.bundles[version]
        self.promoted = [v for v in self.promoted if v in self.bundles]


def bundle_of(release: ModelRelease) -> Bundle | None:
    """The bundle that ``release`` carries; None when it names a version released before."""
    if not release["model"]:
        return None
    return Bundle(
        manifest=release["manifest"].encode(),
        signature=release["signature"],
        model=release["model"],
        fallback=release["fallback_model"],
    )


def release_of(
    model_version: str,
    move: ModelMove,
    *,
    why: str,
    actor: str,
    event_time_ms: int,
    bundle: Bundle | None = None,
    expects: str | None = None,
    canary_percent: int = 0,
    evidence: str = "{}",
) -> ModelRelease:
    """A journal entry."""
    return {
        "model_version": model_version,
        "move": move,
        "why": why,
        "event_time_ms": event_time_ms,
        "manifest": bundle.manifest.decode() if bundle else "",
        "signature": bundle.signature if bundle else b"",
        "model": bundle.model if bundle else b"",
        "fallback_model": bundle.fallback if bundle else b"",
        "actor": actor,
        "expects": expects,
        "canary_percent": canary_percent,
        "evidence": evidence,
    }
