"""What conditions mean: exactness, precedence, and above all what they say of missing values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.decisions.expression import ExpressionError, condition
from services.decisions.tokens import WORDS
from services.decisions.vocabulary import TextList, payments_vocabulary
from tests.unit.decisions.scored_events import FEATURES, columns_of

HOME = TextList("home", "country", frozenset({"FR", "DE"}))
VOCABULARY = payments_vocabulary(FEATURES, {"home": HOME})
NAN = float("nan")


def hits(source: str, **event: Any) -> bool:
    with np.errstate(all="ignore"):
        found = condition(source, VOCABULARY).hits(columns_of(event))
    return bool(np.broadcast_to(found, 1)[0])


@pytest.mark.parametrize(
    ("source", "event"),
    [
        ("amount > 20 and amount < 30", {}),
        ("20 < amount <= 25 < 30", {}),
        ("amount == 25 or 1 / 0.5 > amount", {}),
        ("not amount > 30", {}),
        ("NOT amount > 30 AND currency == 'EUR'", {}),
        ("amount + 5 * 2 == 35", {}),
        ("(amount + 5) * 2 == 60", {}),
        ("amount - 10 - 5 == 10", {}),
        ("amount / 5 / 5 == 1", {}),
        ("-amount < -24 and --amount == 25", {}),
        ("amount_minor == 2_500", {}),
        ("amount == 2.5e1", {}),
        ("true and amount > 1", {}),
        ("not false and amount > .5", {}),
        ("amount > 30 or amount > 20 and currency == 'EUR'", {}),
        ("currency in ['EUR', \"USD\"]", {}),
        ("currency not in ('GBP', 'USD')", {}),
        ("not currency in ['GBP']", {}),
        ("country in home", {"country": "FR"}),
        ("lower(country) in [\"fr\"] and upper('fr') == country", {"country": "FR"}),
        ("country not in home", {"country": "BR"}),
        ("amount in [1, -2, 25]", {}),
        ("amount not in [1, 2]", {}),
        ("length(customer_id) == 2", {}),
        ('starts_with(device_id, "emu") and ends_with(device_id, "-7")', {"device_id": "emulator-7"}),
        ('contains(device_id, "ator")', {"device_id": "emulator-7"}),
        ('not contains(device_id, "x")', {"device_id": "emulator-7"}),
        ("abs(amount - 30) == 5 and floor(amount / 2) == 12", {}),
        ("min(amount, 10, 20) == 10 and max(amount, 10) == 25", {}),
        ("hour_utc(event_time_ms) == 12 and weekday_utc(event_time_ms) == 6", {}),
        ("hour_utc(event_time_ms) == 23 and weekday_utc(event_time_ms) == 2", {"event_time_ms": -1}),
        ("device_id is missing and customer_amount_mean_1d is missing", {"customer_amount_mean_1d": NAN}),
        ("customer_amount_mean_1d is not missing and country is not missing", {"country": "FR"}),
        ("not country is missing", {"country": "FR"}),
        ("score is missing", {"score": NAN}),
        ("coalesce(country, 'none') == 'none' and coalesce(score, 0.5) == 0.5", {"score": NAN}),
        ("coalesce(device_id, country, 'x') == 'FR'", {"country": "FR"}),
    ],
)  # fmt: skip
def test_condition_hits(source: str, event: dict[str, Any]) -> None:
    assert hits(source, **event)
    assert not hits(f"not ({source})", **event)


@pytest.mark.parametrize(
    "compared",
    [
        *(f"customer_amount_mean_1d {sign} 5" for sign in ("<", "<=", ">", ">=", "==", "!=")),
        "0 < customer_amount_mean_1d < 1e9",
        "customer_amount_mean_1d in [0, 1]",
        "customer_amount_mean_1d not in [0, 1]",
        "amount > customer_amount_mean_1d * 3",
        "amount / (amount - 25) > 1",  # 25 / 0
        "(amount - 25) / (amount - 25) == 0",
        "customer_count_5m / customer_count_1h >= 0",  # 0 / 0
        "min(amount, customer_amount_mean_1d) > 1",
        "max(amount, customer_amount_mean_1d) > 1",
        "abs(customer_amount_mean_1d) >= 0",
        "hour_utc(customer_amount_mean_1d) >= 0",
        "country == 'FR'",
        "country != 'FR'",
        "'FR' != country",
        "country == device_id",  # two nulls are not equal
        "country != device_id",
        "country == customer_id",
        "country in home",
        "country not in home",
        "lower(country) == 'fr'",
        "lower(country) != 'fr'",
        "length(country) < 9",
        "starts_with(country, 'F')",
    ],
)
def test_what_meets_a_missing_value_is_not_true_and_neither_is_its_denial(compared: str) -> None:
    for source in (
        compared,
        f"not ({compared})",
        f"not not ({compared})",
        f"({compared}) and true",
        f"false or {compared}",
    ):
        assert not hits(source, customer_amount_mean_1d=NAN), source


def test_unknown_and_or_follow_kleene() -> None:
    assert hits("country == 'FR' or amount == 25")
    assert hits("not (country == 'FR' and amount != 25)"), (
        "one certainly false conjunct makes the whole certainly false"
    )
    assert not hits("not (country == 'FR' and amount == 25)")
    assert not hits("not (country == 'FR' or amount != 25)")


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3, 0.7])
def test_a_float32_feature_equals_the_literal_it_was_rounded_from(rate: float) -> None:
    event = {"terminal_known_fraud_rate_1d": rate}
    name = "terminal_known_fraud_rate_1d"
    assert hits(f"{name} == {rate} and {rate} == {name} and {name} in [{rate}]", **event)
    assert hits(f"-{name} == -{rate} and abs({name}) == {rate} and max({name}, 0) == {rate}", **event)
    assert hits(f"coalesce({name}, 9) == {rate} and not {name} > {rate} and not {name} < {rate}", **event)
    assert hits(f"coalesce({name}, {rate}) == {rate}", terminal_known_fraud_rate_1d=NAN)


def test_amount_is_the_events_own_and_not_the_rounded_feature() -> None:
    assert hits("amount == 100.1", amount=100.1, amount_minor=10_010)


def test_arithmetic_is_float64_and_large_times_stay_exact() -> None:
    assert hits("event_time_ms == 1522584000001", event_time_ms=1_522_584_000_001)
    assert not hits("event_time_ms == 1522584000000", event_time_ms=1_522_584_000_001)
    grown = {"customer_count_1d": 16_777_216.0, "customer_count_5m": 1.0}  # their sum is no float32
    assert hits("customer_count_1d + customer_count_5m != customer_count_1d", **grown)
    assert hits("amount_minor * amount_minor > 1e15", amount_minor=4_000_000_000), "16e18 is no int64"


def test_overflow_is_no_error() -> None:
    endless = " * ".join(["amount", *["(1e15 * 1e15 * 1e15 * 1e15 * 1e15)"] * 5])
    assert hits(f"{endless} > 1")
    assert not hits(f"({endless}) - ({endless}) == 0"), "infinity less infinity is missing"


def test_fixed_width_text_columns_work_like_objects() -> None:
    columns = {**columns_of({}), "country": np.array(["FR", "BR"]), "customer_id": np.array(["c1", "c2"])}
    for source, expected in {
        "country == 'FR'": [True, False],
        "country != 'FR'": [False, True],
        "country not in home": [False, True],
        "country is missing": [False, False],
        "lower(country) == 'br' or country == customer_id": [False, True],
    }.items():
        assert condition(source, VOCABULARY).hits(columns).tolist() == expected, source


def test_a_condition_names_the_columns_it_reads() -> None:
    source = "amount > 3 * customer_amount_mean_7d and country in home or device_id is missing"
    assert condition(source, VOCABULARY).reads == {"amount", "customer_amount_mean_7d", "country", "device_id"}


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        ("().__class__ == 1", "attributes"),
        ("amount.__class__ == 1", "attributes"),
        ("customer_id.upper() == 'X'", "attributes"),
        ("__import__('os') == 1", "unknown function"),
        ("eval('1') == 1", "unknown function"),
        ("getattr(amount, 'x') == 1", "unknown function"),
        ("open('/etc/passwd') == 1", "unknown function"),
        ("__builtins__ == 1", "unknown name"),
        ("amount ** 999999999 > 1", "multiply"),
        ("9 ** 9 ** 9 ** 9 > amount", "multiply"),
        ("amount << 900000 > 1", "shifts"),
        ("amount > 1e308", "absurdly large"),
        ("amount > 1e999999", "absurdly large"),
        ("amount > " + "9" * 400, "absurdly large"),
        ("amount > 1e-999999999999999999999999999999999999", "absurdly large"),
        ("lambda: 1", "colons"),
        ("(lambda amount: 1)(1)", "colons"),
        ("(amount > 1", "close the bracket"),
        ("[amount for amount in [1]]", "commas"),
        ("{amount} == 1", "write a list"),
        ("amount[0] == 1", "and, or"),
        ("customer_id % 'x' == 'y'", "remainder"),
        ("amount; import os", "remove it"),
        ("amount > 1\nimport os", "and, or"),
        ("f'{amount}' == '1'", "and, or"),
        ("'\\x41' == customer_id", "backslash"),
        ("amount := 1", "colons"),
        ("amount = 1", "write =="),
        ("amount > 0x7f", "neither a number nor a name"),
        ("amount > 10000j", "neither a number nor a name"),
        ("аmount > 1", "remove it"),  # a Cyrillic letter that looks like an a
        ("amount > 1 \x00", "remove it"),
        ("(" * 900 + "amount > 1" + ")" * 900, "nests deeper"),
        ("not " * 400 + "amount > 1", "nests deeper"),
        ("-" * 1_500 + "amount > 1", "nests deeper"),
        ("abs(" * 300 + "amount" + ")" * 300 + " > 1", "nests deeper"),
        ("amount" + " + amount" * 200 + " > 1", "nests deeper"),
        ("amount in " + "[" * 900, "nests deeper"),
        ("amount > 1 or " * 1_000 + "amount > 1", "characters"),
    ],
)
def test_what_is_unsafe_is_refused(source: str, remedy: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        condition(source, VOCABULARY)
    assert remedy in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


SOUP = [*sorted(WORDS), *"<>+-*/()[],", "<=", ">=", "==", "!=", "1", "'x'", "amount", "country", "home", "min", "lower"]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(SOUP), max_size=12).map(" ".join)))
def test_any_text_is_a_condition_or_is_refused_with_a_reason(source: str) -> None:
    try:
        compiled = condition(source, VOCABULARY)
    except ExpressionError:
        return
    with np.errstate(all="ignore"):
        assert np.broadcast_to(compiled.hits(columns_of({}, {})), 2).dtype == bool
