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


@dataclass(frozen=True, slots=True)
class ActingList:
    """A list that acts by itself on whoever is on it; ``field`` names the column looked up."""

    values: TextList
    field: str
    effect: Literal["block", "allow"]
    reason: Reason


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Scores from which (inclusive) each action is taken; infinity for an action that the score never calls for."""

    segment: str
    when: Condition | None = None
    challenge: float = math.inf
    review: float = math.inf
    decline: float = math.inf


@dataclass(frozen=True, slots=True)
class Passthrough:
    """Share of would-be declines that is let through so that their outcome is seen; ``when`` narrows who may be."""

    share: float
    salt: str
    when: Condition | None = None


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
