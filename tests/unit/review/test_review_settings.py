"""What a team can do, from the environment."""

from __future__ import annotations

import pytest

from services.mesh.errors import Fatal
from services.mesh.settings import Environment
from services.mesh.topics import DATA_PARTITIONS_DEFAULT
from services.review.settings import ReviewRules, ReviewSettings


def read(**variables: str) -> ReviewSettings:
    environment = Environment(variables)
    settings = ReviewSettings.read(environment)
    environment.check()
    return settings


def test_without_any_the_defaults_hold() -> None:
    settings = read()
    assert settings.rules == ReviewRules()
    assert settings.partitions == DATA_PARTITIONS_DEFAULT


def test_amounts_are_given_in_major_units_of_the_house_currency() -> None:
    rules = read(
        WEIR_REVIEW_CURRENCY="JPY", WEIR_REVIEW_FOUR_EYES="1000000", WEIR_REVIEW_RATES="EUR:165.5,USD:150"
    ).rules
    assert (rules.house_currency, rules.four_eyes_minor, rules.rates) == (
        "JPY",
        1_000_000,
        {"EUR": 165.5, "USD": 150.0},
    )
    assert read(WEIR_REVIEW_FOUR_EYES="0").rules.verdicts_needed(10**12) == 1


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("WEIR_REVIEW_CURRENCY", "EUX", "not a currency"),
        ("WEIR_REVIEW_RATES", "USD=0.9", "must be CURRENCY:RATE"),
        ("WEIR_REVIEW_RATES", "USD:0", "rate above 0"),
        ("WEIR_REVIEW_RATES", "XQQ:2", "is no currency"),
        ("WEIR_REVIEW_OVERFLOW", "review", "must be one of approve, challenge, decline"),
        ("WEIR_REVIEW_SLA", "50d", "must lie in"),
        ("WEIR_REVIEW_EXPIRY", "1h", "would expire before it is overdue"),
        ("WEIR_REVIEW_OPEN_MAX", "0", "must lie in"),
    ],
)
def test_a_mistake_is_named(name: str, value: str, told: str) -> None:
    with pytest.raises(Fatal, match=told):
        read(**{name: value})
