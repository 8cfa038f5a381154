"""Worlds by name: what each is for, and what it is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from services.mesh.errors import Fatal
from services.simulator.fraud import USUAL_PATTERNS, Kind, Pattern, Shift
from services.simulator.world import WorldSettings

DEFAULT, DRIFT = "default", "drift"

# The world of ``make run SCENARIO=drift``. Before its shift most thieves empty stolen cards at once, by night and for
# high amounts: whoever has learned that once needs to know nothing more. Some skim cards at a terminal for a week or
# two. Then they learn that a chargeback takes a week to come: from the shift on six in seven skim, and move on within
# that week. Their payments look like anybody's; what gives them away is only that the terminal has become known, which
# takes the word of an analyst who looked into one victim.
DRIFT_SHIFT_DAY = 35
_EMPTIED = replace(USUAL_PATTERNS[0], share=0.70, by_night=True)
_SKIMMED = Pattern(
    kind=Kind.COMPROMISED_TERMINAL,
    share=0.30,
    payments=(60, 100),
    span_h=(192.0, 312.0),
    amount_factor=(1.2, 2.5),
    victim="terminal",
)
_MOVING_ON = replace(_SKIMMED, share=0.85, payments=(40, 60), span_h=(144.0, 168.0))


def _default(settings: WorldSettings, shift_day: int | None) -> WorldSettings:
    return replace(settings, shift=None if shift_day is None else Shift(day=shift_day))


def _drift(settings: WorldSettings, shift_day: int | None) -> WorldSettings:
    """About 1,060 payments a day, 65 of them fraud."""
    return replace(
        settings,
        customers=2_000,
        terminals=2_500,
        payments_per_customer_day=0.5,
        fraud_share=0.065,
        patterns=(_EMPTIED, _SKIMMED),
        shift=Shift(
            day=DRIFT_SHIFT_DAY if shift_day is None else shift_day,
            ramp_days=7,
            genuine_amount_factor=1.0,
            patterns=(replace(_EMPTIED, share=0.15), _MOVING_ON),
        ),
    )


_WORLDS: Mapping[str, Callable[[WorldSettings, int | None], WorldSettings]] = {DEFAULT: _default, DRIFT: _drift}


def world_named(name: str, settings: WorldSettings, shift_day: int | None = None) -> WorldSettings:
    """The world called ``name``, of ``settings``' seed and size where it leaves them open; Fatal when there is none."""
    if name not in _WORLDS:
        raise Fatal(f"--world={name}: must be one of {', '.join(_WORLDS)}")
    return _WORLDS[name](settings, shift_day)
