"""What a policy says about one event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Action: TypeAlias = Literal["approve", "challenge", "review", "decline"]
ACTIONS: tuple[Action, ...] = ("approve", "challenge", "review", "decline")  # from mildest to strictest
DONE: dict[Action, str] = {
    "approve": "approved",
    "challenge": "challenged",
    "review": "reviewed",
    "decline": "declined",
}
STRICTNESS: dict[Action, int] = {action: level for level, action in enumerate(ACTIONS)}

Reason: TypeAlias = tuple[str, str]  # machine code, text for people


@dataclass(frozen=True, slots=True)
class Verdict:
    """Action on one event, with at least one reason for it.

    ``reasons`` call for the action taken, what decided first, then the circumstances; ``rule_hits`` names every rule
    that hit, overruled ones too, in the order of the file. ``propensity`` is the probability with which this policy
    takes this action on this event: 1.0 unless a pass-through or the control group could have changed it.
    """

    action: Action
    reasons: tuple[Reason, ...]
    rule_hits: tuple[str, ...]
    propensity: float = 1.0
