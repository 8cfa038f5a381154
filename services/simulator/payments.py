"""A stretch of payments as columns, and beside it, apart, what they really were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHANNELS = ("chip", "contactless", "online", "atm")
CHIP, CONTACTLESS, ONLINE, ATM = range(4)

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payments:
    """Payments in no promised order; every array has shape (n,)."""

    event_time_ms: Ints
    customer: Ints  # number of the customer
    terminal: Ints  # number of the terminal
    amount_minor: Ints
    channel: Ints  # index into CHANNELS
    country: Ints  # index into people.ALL_COUNTRIES
    device: Ints  # 0 and up: the customer's own devices; below 0: somebody else's

    def __len__(self) -> int:
        return len(self.event_time_ms)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Payments:
        """The payments at ``rows`` (indices or a mask), in that order."""
        return Payments(**{name: getattr(self, name)[rows] for name in self.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What payments were and which campaign made them; shape (n,), beside the payments, never inside them."""

    kind: Ints  # fraud.Kind
    campaign: Ints  # number of the campaign within its first day; -1 for genuine

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Truth:
        """The truth about the payments at ``rows``."""
        return Truth(kind=self.kind[rows], campaign=self.campaign[rows])


def join_payments(parts: Sequence[Payments]) -> Payments:
    """All of ``parts``, one after the other."""
    return Payments(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in Payments.__slots__})


def join_truth(parts: Sequence[Truth]) -> Truth:
    """All of ``parts``, one after the other."""
    return Truth(
        kind=np.concatenate([part.kind for part in parts]), campaign=np.concatenate([part.campaign for part in parts])
    )
