from __future__ import annotations

import pytest

from services.ingestion.settings import IngestionSettings
from services.mesh.currency import EXPONENTS
from services.mesh.errors import Fatal
from services.mesh.settings import Environment
from services.mesh.topics import DATA_PARTITIONS_DEFAULT


def read(**variables: str) -> IngestionSettings:
    environment = Environment(variables)
    settings = IngestionSettings.read(environment)
    environment.check()
    return settings


def test_defaults_are_the_designs() -> None:
    settings = read()
    rules = settings.rules
    assert (rules.lateness_ms, rules.ahead_ms, rules.jump_ms) == (3_600_000, 300_000, 86_400_000)
    assert settings.partitions == DATA_PARTITIONS_DEFAULT


def test_values_are_read_with_their_units() -> None:
    settings = read(WEIR_LATENESS="90m", WEIR_CLOCK_JUMP_MAX="2d", WEIR_SEEN_MEMORY="1G", WEIR_PARTITIONS="3")
    assert (settings.rules.lateness_ms, settings.rules.jump_ms) == (5_400_000, 172_800_000)
    assert (settings.seen_memory_bytes, settings.partitions) == (1 << 30, 3)


def test_all_mistakes_are_told_in_one_line() -> None:
    with pytest.raises(Fatal) as caught:
        read(WEIR_LATENESS="1 hour", WEIR_PARTITIONS="0", WEIR_SEEN_MEMORY="lots")
    assert str(caught.value) == (
        "environment, 3 mistakes: WEIR_PARTITIONS='0': must lie in 1..200; "
        "WEIR_LATENESS='1 hour': must be a number with a unit (ms, s, m, h, d), for example 250ms or 1h; "
        "WEIR_SEEN_MEMORY='lots': must be a size such as 4096, 64k, 256M or 2G"
    )


def test_a_lateness_beyond_the_jump_is_refused() -> None:
    with pytest.raises(Fatal, match="WEIR_CLOCK_JUMP_MAX is 3600000 ms and WEIR_LATENESS 7200000 ms"):
        read(WEIR_LATENESS="2h", WEIR_CLOCK_JUMP_MAX="1h")


def test_environment_reads_every_kind() -> None:
    environment = Environment({"N": "-3", "F": "0.25", "C": "b", "T": "x", "EMPTY": "", "LONG": "y" * 99})
    assert environment.integer("N", None, minimum=-5) == -3
    assert environment.number("F", None, 0, 1) == 0.25
    assert environment.choice("C", None, ("a", "b")) == "b"
    assert environment.text("T", None) == "x"
    assert environment.text("EMPTY", "fallback") == "fallback"
    environment.check()
    environment.text("GONE", None)
    environment.number("T", 0.5, 0, 1)
    environment.choice("T", None, ("a", "b"))
    environment.text("LONG", "", pattern="[a-z]{3}", form="three letters")
    with pytest.raises(Fatal) as caught:
        environment.check()
    assert str(caught.value) == (
        "environment, 4 mistakes: GONE is not set and has no default; set it; T='x': must be a number such as 0.25; "
        f"T='x': must be one of a, b; LONG='{'y' * 40}…': must be three letters"
    )


def test_currencies_have_the_exponents_that_matter() -> None:
    assert {code: EXPONENTS[code] for code in ("EUR", "JPY", "KWD", "CLF", "KRW", "TND", "HUF")} == {
        "EUR": 2, "JPY": 0, "KWD": 3, "CLF": 4, "KRW": 0, "TND": 3, "HUF": 2,
    }  # fmt: skip
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in EXPONENTS)
    assert not EXPONENTS.keys() & {"XXX", "XTS", "XAU"}
