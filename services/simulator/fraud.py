"""Kinds of fraud as data: what each does to whom, how often, how long; and how a shift changes the mix.

A *campaign* is one thief's work on one victim: a stolen card emptied within hours, a terminal that skims for weeks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from math import exp
from typing import Literal

from services.mesh.errors import Fatal


class Kind(IntEnum):
    """What a payment really was; the truth, never sent inside an event."""

    GENUINE = 0
    STOLEN_CARD = 1
    COMPROMISED_TERMINAL = 2
    ACCOUNT_TAKEOVER = 3
    CARD_TESTING = 4
    LOW_AND_SLOW = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """How one kind of fraud works; pairs are uniform ranges (low, high)."""

    kind: Kind
    share: float  # of all fraudulent payments
    payments: tuple[int, int]  # a campaign makes, both ends included
    span_h: tuple[float, float]  # a campaign lasts
    amount_factor: tuple[float, float]  # over what its victim usually pays
    victim: Literal["customer", "terminal"] = "customer"
    where: Literal["anywhere", "one_terminal", "near_home", "outlet"] = "anywhere"
    small_payments: tuple[int, int] = (0, 0)  # tries of at most 2 major units that come first
    by_night: bool = False  # keeps a thief's hours instead of an even pace
    online_foreign: bool = False  # from a new device and a far country
    outlets: int = 1  # how many terminals there are to choose from where ``where`` says outlet

    @property
    def payments_mean(self) -> float:
        """Mean number of payments a campaign, tries included."""
        return (sum(self.payments) + sum(self.small_payments)) / 2


CAMPAIGN_DAYS_MAX = 15  # a day's payments are found by looking back this far; longer spans are refused

USUAL_PATTERNS = (
    Pattern(
        kind=Kind.STOLEN_CARD, share=0.38, payments=(6, 12), span_h=(0.7, 4.0), amount_factor=(4.0, 9.0),
    ),
    Pattern(
        kind=Kind.COMPROMISED_TERMINAL, share=0.14, payments=(40, 80), span_h=(120.0, 300.0), amount_factor=(0.8, 2.2),
        victim="terminal",
    ),
    Pattern(
        kind=Kind.ACCOUNT_TAKEOVER, share=0.30, payments=(8, 18), span_h=(30.0, 96.0), amount_factor=(6.0, 14.0),
        by_night=True, online_foreign=True,
    ),
    Pattern(
        kind=Kind.CARD_TESTING, share=0.18, payments=(2, 4), span_h=(0.2, 0.8), amount_factor=(8.0, 15.0),
        small_payments=(4, 10), where="one_terminal", online_foreign=True,
    ),
)  # fmt: skip

# After a shift thieves stay nearer to what is ordinary: smaller amounts, the victim's own shops, fewer takeovers.
SHIFTED_PATTERNS = (
    Pattern(
        kind=Kind.LOW_AND_SLOW, share=0.35, payments=(10, 22), span_h=(1.0, 5.0), amount_factor=(1.5, 3.5),
        where="near_home", by_night=True,
    ),
    Pattern(
        kind=Kind.COMPROMISED_TERMINAL, share=0.14, payments=(60, 120), span_h=(120.0, 300.0),
        amount_factor=(0.8, 2.2), victim="terminal",
    ),
    replace(USUAL_PATTERNS[0], share=0.26),
    replace(USUAL_PATTERNS[2], share=0.10),
    replace(USUAL_PATTERNS[3], share=0.15),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """A new thing that honest customers do, which spreads from hand to hand: slowly at first, then all at once."""

    pattern: Pattern  # of kind GENUINE; its share says nothing
    payments_per_day: float  # once everybody does it
    half_way_days: float  # after the shift begins, half of that
    e_fold_days: float  # at first it grows by e in so many days (the logistic curve of adoption)

    def level(self, days: float) -> float:
        """How far it has spread ``days`` after the shift began, 0 to 1."""
        return 1.0 / (1.0 + exp((self.half_way_days - days) / self.e_fold_days))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """A change of the world that starts at midnight of ``day`` and is complete ``ramp_days`` later."""

    day: int
    ramp_days: int = 14
    genuine_amount_factor: float = 1.8  # everybody pays more: prices, or a new habit
    patterns: tuple[Pattern, ...] = SHIFTED_PATTERNS
    habit: Habit | None = None

    def level(self, day: int) -> float:
        """How much of the change is in force on ``day``: 0 before, 1 once complete."""
        return min(1.0, max(0.0, (day - self.day + 1) / max(1, self.ramp_days)))

    def habit_payments(self, day: int) -> float:
        """Expected payments of the new habit on ``day``."""
        if self.habit is None or day < self.day:
            return 0.0
        return self.habit.payments_per_day * self.habit.level(day - self.day + 0.5)


def check_patterns(patterns: tuple[Pattern, ...]) -> None:
    """Refuse patterns that the world cannot make; Fatal names the first."""
    for pattern in patterns:
        if pattern.span_h[1] > CAMPAIGN_DAYS_MAX * 24:
            raise Fatal(
                f"fraud pattern {pattern.kind.name}: span_h={pattern.span_h[1]} is over {CAMPAIGN_DAYS_MAX} days; "
                "shorten it or raise CAMPAIGN_DAYS_MAX"
            )
        if pattern.share < 0 or pattern.payments_mean <= 0:
            raise Fatal(f"fraud pattern {pattern.kind.name}: share and payments must be positive; got {pattern}")
    if patterns and abs(sum(pattern.share for pattern in patterns) - 1.0) > 1e-6:
        raise Fatal(f"fraud patterns' shares add up to {sum(p.share for p in patterns):.3f}; they must add up to 1")
