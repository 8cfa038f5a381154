"""What a policy file declares, once it is found right: frozen parts, conditions compiled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from services.decisions.expression import Condition
from services.decisions.verdict import Action, Reason
from services.decisions.vocabulary import TextList


class Season(Enum):
    """When a rule applies."""

    ALWAYS = "rules"
    BOOTSTRAP = "bootstrap"  # only before the first model
    FALLBACK = "fallback"  # only where the features can't be trusted


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition and what follows from it."""

    name: str
    condition: Condition
    action: Action
    reason: Reason
    season: Season
    owner: str = ""
    expected_rate: float | None = None  # share of the events it is tried on; None: nobody said, so it has no fuse


@dataclass(frozen=True, slots=True)
class ActingList:
    """A list that acts by itself on whoever is on it; ``field`` names the column looked up."""

    values: TextList
    field: str
    effect: Literal["block", "allow"]
    reason: Reason


@dataclass(frozen=True, slots=True)
class Cuts:
    """Values from which (inclusive) each action is taken; infinity for an action that is never called for."""

    challenge: float = math.inf
    review: float = math.inf
    decline: float = math.inf


@dataclass(frozen=True, slots=True)
class ExpectedLoss:
    """Thresholds on score times amount, in major units; only of payments in ``currencies``."""

    cuts: Cuts
    currencies: frozenset[str]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What the score calls for in one segment: by its own height, and by the loss to be expected."""

    segment: str
    when: Condition | None = None
    cuts: Cuts = Cuts()
    loss: ExpectedLoss | None = None


@dataclass(frozen=True, slots=True)
class Passthrough:
    """Share of would-be declines that is let through so that their outcome is seen; ``when`` narrows who may be."""

    share: float
    salt: str
    when: Condition | None = None


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """Share of the customers, fixed by a hash, for whom the policy does not act; ``when`` narrows which events."""

    share: float
    salt: str
    when: Condition | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """Where no machine decides alone."""

    when: Condition
    reason: Reason


@dataclass(frozen=True, slots=True)
class Review:
    """What people look at: how much they can in a day of event time, and what must come to them."""

    per_day: int | None = None  # None: without end
    over_budget: Action = "challenge"
    high_stakes: Limit | None = None
    low_confidence: Limit | None = None


@dataclass(frozen=True, slots=True)
class Fuse:
    """When a rule has fired so far above its expected rate that it must be broken: see ``fuses.py``."""

    window_ms: int = 3_600_000
    factor: float = 10.0
    events_min: int = 500
    cool_down_ms: int = 6 * 3_600_000


@dataclass(frozen=True, slots=True)
class Declaration:
    """A whole policy file. ``segments`` in order, the default last; ``fallback_statuses`` are feature statuses."""

    name: str
    description: str
    owner: str
    lists: tuple[ActingList, ...]
    rules: tuple[Rule, ...]
    segments: tuple[Thresholds, ...]
    fallback: Thresholds
    fallback_statuses: frozenset[str]
    passthrough: Passthrough
    control: ControlGroup
    review: Review
    fuse: Fuse
    two_people: bool = False  # whoever replaces this policy needs somebody else's approval
