"""What the controller is told, what it does, and what it remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.mesh.model_registry import BOOTSTRAP
from services.mesh.records import ModelMove
from services.retraining.evidence import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A record of ``models.v1``, with what the fold made of it."""

    model_version: str
    move: ModelMove
    event_time_ms: int
    champion: str  # that serves after it
    running: tuple[str, ...]  # that run beside after it
    canary: str  # that serves a share after it; empty: none
    kind: str = ""  # of a note; from its evidence
    answers: frozenset[str] = frozenset()  # alerts that the training which it tells of was started for
    is_void: bool = False
    has_bundle: bool = False  # it is the first to bring one


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerted:
    """A record of ``drift-alerts.v1``."""

    alert_id: str
    is_raised: bool
    is_harm: bool
    event_time_ms: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A training has ended well; its bundle waits in ``folder``."""

    model_version: str
    feature_set: str
    folder: str
    measures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFailed:
    """A training has ended without a model."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Labels so far: rows and frauds of matured age, and frauds in all."""

    rows: int = 0
    frauds: int = 0
    oldest_ms: int = 0
    new_frauds: int = 0  # observed since the last training's cut-off


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """The clock has moved, or somebody wants to know."""

    clock_ms: int
    counts: Counts
    standings: Mapping[str, Standing] = field(default_factory=dict)  # of each version beside, against the champion


Event = Released | Alerted | Trained | TrainingFailed | Tick


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """Start a training."""

    cut_off_ms: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Append a move to ``models.v1``. ``folder``: where the bundle that it brings lies; empty: it brings none."""

    model_version: str
    move: ModelMove
    why: str
    event_time_ms: int
    expects: str | None = None
    canary_percent: int = 0
    evidence: Mapping[str, object] = field(default_factory=dict)
    folder: str = ""


Action = Train | Move


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A version that runs beside the champion."""

    model_version: str
    since_ms: int
    is_watched: bool = False  # it served before the champion


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the controller knows."""

    clock_ms: int = 0
    champion: str = BOOTSTRAP
    champion_since_ms: int = 0
    served: frozenset[str] = frozenset()  # whoever was champion
    trials: tuple[Trial, ...] = ()
    canary: str = ""
    canary_since_ms: int = 0
    trained_ms: tuple[int, ...] = ()  # event times at which trainings were started
    training: str = ""  # why one runs; empty: none does
    is_training_open: bool = False  # the journal tells of a start and of no end
    alerts: Mapping[str, Alerted] = field(default_factory=dict)  # harm that holds, by alert
    answered: frozenset[str] = frozenset()  # alerts that a training was started for and that still hold
    noted: tuple[str, ...] = ()  # refusals that were told, so that each is told once

    def since_ms(self, trial: Trial) -> int:
        """From when on it is compared with the champion.

        Whoever served before is compared on what came after: what was before made the champion win.
        """
        return self.champion_since_ms if trial.is_watched else 0
