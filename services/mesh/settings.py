"""A service's settings: environment -> typed values, every mistake told at once.

A service reads its variables one by one; a bad one is noted and replaced by its default, and ``check`` ends the
process with one line that names them all: a person mends the whole file in one go.

    environment = Environment(os.environ)
    lateness_ms = environment.duration_ms("WEIR_LATENESS", 3_600_000)
    environment.check()
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from services.mesh.errors import Fatal

Value = TypeVar("Value", int, float, str)

_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_UNIT_BYTES: Final = {"": 1, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_DURATION: Final = re.compile(r"(\d{1,12})(ms|s|m|h|d)", re.ASCII)
_SIZE: Final = re.compile(r"(\d{1,15})([kMG]?)", re.ASCII)
_SHOWN_MAX: Final = 40
_INT64_MAX: Final = (1 << 63) - 1


class Environment:
    """Typed look at environment variables; an empty variable counts as not set.

    A ``default`` of None makes the variable required. Until ``check`` has passed, values may stand in for bad ones.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.mistakes: list[str] = []

    def text(self, name: str, default: str | None, *, pattern: str = r"(?s).+", form: str = "text") -> str:
        """The variable as it is; ``form`` tells people what ``pattern`` asks for."""

        def parse(raw: str) -> str:
            if not re.fullmatch(pattern, raw):
                raise ValueError(f"must be {form}")
            return raw

        return self._read(name, default, "", parse)

    def choice(self, name: str, default: str | None, choices: Sequence[str]) -> str:
        """One of ``choices``."""

        def parse(raw: str) -> str:
            if raw not in choices:
                raise ValueError(f"must be one of {', '.join(choices)}")
            return raw

        return self._read(name, default, choices[0], parse)

    def integer(self, name: str, default: int | None, minimum: int = 0, maximum: int = _INT64_MAX) -> int:
        """A whole number in ``minimum..maximum``."""

        def parse(raw: str) -> int:
            if not re.fullmatch(r"-?[0-9]{1,19}", raw):
                raise ValueError("must be a whole number")
            return _within(int(raw), minimum, maximum, str)

        return self._read(name, default, minimum, parse)

    def number(self, name: str, default: float | None, minimum: float, maximum: float) -> float:
        """A finite decimal number in ``minimum..maximum``."""

        def parse(raw: str) -> float:
            if not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?(e-?[0-9]{1,2})?", raw):
                raise ValueError("must be a number such as 0.25")
            return _within(float(raw), minimum, maximum, str)

        return self._read(name, default, minimum, parse)

    def duration_ms(self, name: str, default: int | None, minimum: int = 0, maximum: int = _INT64_MAX) -> int:
        """A length of time with its unit (250ms, 10s, 5m, 1h, 7d), in milliseconds within ``minimum..maximum``."""

        def parse(raw: str) -> int:
            match = _DURATION.fullmatch(raw)
            if match is None:
                raise ValueError("must be a number with a unit (ms, s, m, h, d), for example 250ms or 1h")
            return _within(int(match[1]) * _UNIT_MS[match[2]], minimum, maximum, _duration)

        return self._read(name, default, minimum, parse)

    def size_bytes(self, name: str, default: int | None, minimum: int = 0, maximum: int = _INT64_MAX) -> int:
        """A size (4096, 64k, 256M, 2G; powers of 1024), in bytes within ``minimum..maximum``."""

        def parse(raw: str) -> int:
            match = _SIZE.fullmatch(raw)
            if match is None:
                raise ValueError("must be a size such as 4096, 64k, 256M or 2G")
            return _within(int(match[1]) * _UNIT_BYTES[match[2]], minimum, maximum, str)

        return self._read(name, default, minimum, parse)

    def refuse(self, mistake: str) -> None:
        """Note a mistake that only shows when several variables are looked at together."""
        self.mistakes.append(mistake)

    def check(self) -> None:
        """Raise one Fatal that names every bad variable, its value and its remedy."""
        if self.mistakes:
            count = len(self.mistakes)
            head = "environment" if count == 1 else f"environment, {count} mistakes"
            raise Fatal(f"{head}: {'; '.join(self.mistakes)}")

    def _read(self, name: str, default: Value | None, stand_in: Value, parse: Callable[[str], Value]) -> Value:
        raw = self._variables.get(name, "")
        fallback = stand_in if default is None else default
        if not raw:
            if default is None:
                self.mistakes.append(f"{name} is not set and has no default; set it")
            return fallback
        try:
            return parse(raw)
        except ValueError as error:
            shown = raw if len(raw) <= _SHOWN_MAX else raw[:_SHOWN_MAX] + "…"
            self.mistakes.append(f"{name}={shown!r}: {error}")
            return fallback


def parse_duration_ms(raw: str, name: str) -> int:
    """A length of time with its unit (250ms, 10s, 5m, 1h, 7d) in milliseconds; Fatal naming ``name``."""
    match = _DURATION.fullmatch(raw)
    if match is None:
        raise Fatal(f"{name}={raw!r}: must be a number with a unit (ms, s, m, h, d), for example 250ms or 7d")
    return int(match[1]) * _UNIT_MS[match[2]]


Number = TypeVar("Number", int, float)


def _within(value: Number, low: Number, high: Number, show: Callable[[Number], str]) -> Number:
    if not low <= value <= high:
        raise ValueError(f"must lie in {show(low)}..{show(high)}")
    return value


def _duration(ms: int) -> str:
    for unit in ("d", "h", "m", "s"):
        if ms and ms % _UNIT_MS[unit] == 0:
            return f"{ms // _UNIT_MS[unit]}{unit}"
    return f"{ms}ms"
