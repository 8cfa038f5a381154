"""The command line: defaults, and one line for what makes no sense."""

from __future__ import annotations

import pytest

from services.mesh.errors import Fatal
from services.simulator.settings import Settings, read_settings
from services.simulator.speed import Factor, Unpaced


def settings(*arguments: str) -> Settings:
    return read_settings(["--kafka", "broker:1", *arguments])


def test_a_file_goes_at_full_speed_and_the_world_at_a_pace_to_watch() -> None:
    assert settings("--input", "a.csv").speed == Unpaced()
    assert settings().speed == Factor(600.0)


def test_durations_become_milliseconds() -> None:
    given = settings("--label-delay", "2d", "--for", "4m", "--window", "3h")
    assert (given.label_delay_ms, given.for_s, given.window_ms) == (2 * 86_400_000, 240.0, 3 * 3_600_000)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--speed", "fast"], "SPEED='fast'"),
        (["--for", "soon"], "FOR='soon'"),
        (["--label-delay", "-1d"], "LABEL_DELAY='-1d'"),
        (["--days", "0"], "--days=0"),
        (["--history-days", "-1"], "--history-days=-1"),
        (["--dirty", "2"], "--dirty=2.0"),
    ],
)
def test_a_senseless_value_is_named(arguments: list[str], said: str) -> None:
    with pytest.raises(Fatal, match=said):
        settings(*[arguments[0] + "=" + arguments[1]])
