"""The models in force: follows ``models.v1``, tries each new bundle in a child process, swaps between two batches.

Probation runs beside scoring: the model in force goes on until the new one has passed. A swap replaces one reference,
so no batch is scored by a mix.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.mesh.bundle import BundleRefused, Refusal, verify
from services.mesh.bundle_parts import Bundle
from services.mesh.codec import Codec
from services.mesh.errors import Poison
from services.mesh.feature_set import FeatureSetPin
from services.mesh.manifest import Manifest
from services.mesh.model_registry import Canary
from services.mesh.niceness import LAST
from services.mesh.ports import Clock, InRecord, Journal
from services.mesh.records import ModelRelease
from services.mesh.telemetry import StageTelemetry
from services.scoring.model import BootstrapScorer, Scorer, Scores
from services.scoring.probation import Probation
from services.scoring.roster import Roster

_SETTLE_POLL_S = 0.02
# Models that passed their trial and left: a rollback, or one that changes places, serves at the next batch. Two are the
# champion before and the one that was tried against it.
_SPARE_MAX = 2


class _Trial(NamedTuple):
    """The bundle on probation: bytes that pass for another version, or other bytes for this one, are not it."""

    version: str
    bundle: Bundle
    manifest: Manifest
    probation: Probation


class ModelDesk:
    """What scoring asks for a model."""

    def __init__(
        self,
        journal: Journal,
        public_keys: Sequence[Ed25519PublicKey],
        features: FeatureSetPin,
        bootstrap: BootstrapScorer,
        clock: Clock,
        telemetry: StageTelemetry,
    ) -> None:
        self._journal = journal
        self._keys = public_keys
        self._features = features
        self._bootstrap = bootstrap
        self._clock = clock
        self._telemetry = telemetry
        self._codec = Codec("model_release.v1.avsc")
        self._roster = Roster()
        self._loaded: dict[str, Scorer] = {}
        self._trial: _Trial | None = None
        self._trial_niceness = 0  # at the start all wait for it; later it steps back behind the batches
        self.champion: Scores = bootstrap
        self.challengers: list[Scorer] = []
        self.canary: Canary | None = None  # one of the challengers, which serves a share of the customers

    def open(self) -> None:
        """Read the journal to its end and settle on a model; ready means that this has returned."""
        self._take(self._journal.read_to_end())
        while not self._settle():
            self._telemetry.alive()
            self._clock.sleep_s(_SETTLE_POLL_S)
        self._trial_niceness = LAST
        self._telemetry.in_force("model", self.champion.version)

    def turn(self) -> None:
        """Once between two batches: new releases, and the trial that may have ended."""
        records = self._journal.poll()
        if records:
            self._take(records)
        if records or self._trial is not None:
            self._settle()

    def _take(self, records: Sequence[InRecord]) -> None:
        for record in records:
            try:
                release: ModelRelease = self._codec.decode(record.value)  # type: ignore[assignment]
            except Poison as poison:
                self._refused(f"models.v1@{record.offset}", str(poison))
                continue
            version = release["model_version"]
            known = self._roster.bundles.get(version)
            why_void = self._roster.apply(release)
            if why_void and release["model"]:
                self._refused(version, f"its {release['move']} is void: {why_void}")
            elif why_void:
                logging.warning("%s of model %s is void: %s", release["move"], version, why_void)
            if self._roster.bundles.get(version) != known:
                self._loaded.pop(version, None)  # retired, or released anew after that: other bytes, another trial

    def _settle(self) -> bool:
        """Bring what serves closer to what should; True when they agree."""
        while True:
            champion, beside = self._roster.champion(), self._roster.beside()
            missing = [v for v in (champion, *beside) if v is not None and v not in self._loaded]
            self._end_trial(missing)
            if champion is None or champion in self._loaded:
                # Not held up by a challenger that is still on trial.
                self._put_in_force(champion, [v for v in beside if v in self._loaded])
            if not missing:
                if self._trial is not None:
                    self._try(self._trial.version)
                return True
            if not self._try(missing[0]):
                return False

    def _try(self, version: str) -> bool:
        """Move the trial of ``version`` on; True when it has ended, either way."""
        try:
            bundle = self._roster.bundles[version]
            if self._trial is None:
                manifest = verify(bundle, self._keys, self._features.content_hash, self._features.names)
                if manifest.model_version != version:
                    raise BundleRefused(Refusal.MALFORMED_MANIFEST, f"its manifest says {manifest.model_version}")
                probation = Probation(bundle, manifest, niceness=self._trial_niceness)
                self._trial = _Trial(version, bundle, manifest, probation)
            if not self._trial.probation.passed():
                return False
            self._loaded[version] = Scorer(self._trial.manifest, bundle.model, bundle.fallback)
        except BundleRefused as refused:
            self._roster.refuse(version)
            self._refused(version, str(refused))
        self._trial = None
        return True

    def _end_trial(self, missing: list[str]) -> None:
        """End a trial when another is to come first, or when its bundle is retired or was released with other bytes.

        One that nobody waits for right now goes on: its version may be between two places, and a trial that began
        anew at each of its moves would never end.
        """
        trial = self._trial
        if trial is None:
            return
        is_known = self._roster.bundles.get(trial.version) is trial.bundle
        if not is_known or (missing and missing[0] != trial.version):
            trial.probation.close()
            self._trial = None

    def _put_in_force(self, version: str | None, beside: list[str]) -> None:
        champion: Scores = self._bootstrap if version is None else self._loaded[version]
        self.challengers = [self._loaded[v] for v in beside]
        canary = self._roster.canary()
        self.canary = canary if canary is not None and canary.model_version in beside else None
        self._loaded = self._kept({champion.version, *beside})
        if champion.version != self.champion.version:
            logging.info("model %s serves from now on, in place of %s", champion.version, self.champion.version)
            self._telemetry.metrics.add("weir_model_swaps", 1)
            self._telemetry.in_force("model", champion.version)
        self.champion = champion

    def _kept(self, in_force: set[str]) -> dict[str, Scorer]:
        """Those that left last, then those in force: the first ones left longest ago."""
        spare = [version for version in self._loaded if version not in in_force][-_SPARE_MAX:]
        return {v: self._loaded[v] for v in (*spare, *(v for v in self._loaded if v in in_force))}

    def _refused(self, version: str, why: str) -> None:
        logging.error("model %s refused, %s goes on: %s", version, self.champion.version, why)
        self._telemetry.metrics.add("weir_models_refused", 1)
