"""Guessing passwords: after a few wrong ones each further try has to wait twice as long. Pure, bounded."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

FREE_TRIES_NAME: Final = 5
FREE_TRIES_ADDRESS: Final = 20  # an office behind one address
WAIT_S_FIRST: Final = 2.0
WAIT_S_MAX: Final = 900.0
FORGET_S: Final = 3_600.0
KEPT_MAX: Final = 10_000


@dataclass(slots=True)
class _Record:
    wrong: int
    last_s: float


class Lockout:
    """Counts wrong passwords by user name and by address."""

    def __init__(self) -> None:
        self._records: OrderedDict[tuple[str, str], _Record] = OrderedDict()

    def wait_s(self, name: str, address: str, now_s: float) -> float:
        """Seconds until the next try is looked at; 0 when it is now. A try that came too early changes nothing."""
        return max(
            self._wait_s(("name", name), FREE_TRIES_NAME, now_s),
            self._wait_s(("address", address), FREE_TRIES_ADDRESS, now_s),
        )

    def failed(self, name: str, address: str, now_s: float) -> None:
        """One more wrong password."""
        for key in (("name", name), ("address", address)):
            record = self._records.get(key)
            if record is None or now_s - record.last_s > FORGET_S:
                record = _Record(0, now_s)
            record.wrong += 1
            record.last_s = now_s
            self._records[key] = record
            self._records.move_to_end(key)
        while len(self._records) > KEPT_MAX:
            self._records.popitem(last=False)

    def succeeded(self, name: str) -> None:
        """The right one: the name starts over. The address does not: who has one account there may guess others."""
        self._records.pop(("name", name), None)

    def _wait_s(self, key: tuple[str, str], free: int, now_s: float) -> float:
        record = self._records.get(key)
        if record is None or record.wrong < free or now_s - record.last_s > FORGET_S:
            return 0.0
        # The exponent is bounded before it is used: nobody's thousandth try needs a number of 300 digits.
        wait_s = min(WAIT_S_FIRST * 2.0 ** min(record.wrong - free, 20), WAIT_S_MAX)
        return max(0.0, record.last_s + wait_s - now_s)
