"""The review service's own settings, from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from services.mesh.currency import EXPONENTS
from services.mesh.records import Action
from services.mesh.settings import Environment
from services.mesh.topics import DATA_PARTITIONS_DEFAULT, DAY_MS, LOOP_RETENTION_MS

HOUR_MS: Final = 3_600_000
# A start reads reviews.v1 of this much more than cases live: a service that was away for two weeks still ends them.
LOOK_BACK_MARGIN_MS: Final = 14 * DAY_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRules:
    """What people can do, and what happens beyond it."""

    sla_ms: int = 4 * HOUR_MS
    open_max: int = 2_000
    per_day: int = 1_000  # 0: no limit
    default_action: Action = "challenge"
    four_eyes_minor: int = 1_000_000  # of value_minor; 0: never
    house_currency: str = "EUR"
    rates: Mapping[str, float] = field(
        default_factory=dict
    )  # units of house_currency for one unit; 1 where none is told
    expiry_ms: int = 40 * DAY_MS

    def value_minor(self, amount_minor: int, currency: str) -> int:
        """An amount in minor units of the house currency."""
        if currency == self.house_currency:
            return amount_minor
        exponent = EXPONENTS[self.house_currency] - EXPONENTS.get(currency, 2)
        return round(amount_minor * 10.0**exponent * self.rates.get(currency, 1.0))

    def verdicts_needed(self, value_minor: int) -> int:
        """How many people have to agree."""
        return 2 if self.four_eyes_minor and value_minor >= self.four_eyes_minor else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewSettings:
    """Each with its unit and why its default."""

    redis: str
    partitions: int
    rules: ReviewRules

    @classmethod
    def read(cls, environment: Environment) -> ReviewSettings:
        """From the environment; mistakes are collected by ``environment``."""
        defaults = ReviewRules()
        currency = environment.text("WEIR_REVIEW_CURRENCY", defaults.house_currency, pattern="[A-Z]{3}", form="EUR")
        if currency not in EXPONENTS:
            environment.refuse(f"WEIR_REVIEW_CURRENCY={currency}: not a currency of ISO 4217 with a minor unit")
            currency = defaults.house_currency
        four_eyes = environment.number("WEIR_REVIEW_FOUR_EYES", 10_000.0, 0.0, 1e12)  # major units
        rules = ReviewRules(
            # Half a working day: whoever waits for a payment has called by then.
            sla_ms=environment.duration_ms("WEIR_REVIEW_SLA", defaults.sla_ms, 1_000, 30 * DAY_MS),
            # Eight analysts who look at fifteen cases an hour do a thousand a day; twice that may wait.
            open_max=environment.integer("WEIR_REVIEW_OPEN_MAX", defaults.open_max, 1, 1_000_000),
            per_day=environment.integer("WEIR_REVIEW_PER_DAY", defaults.per_day, 0, 1_000_000),
            # What a policy's own budget does with reviews that the day has no room for.
            default_action=cast(
                Action,
                environment.choice(
                    "WEIR_REVIEW_OVERFLOW", defaults.default_action, ("approve", "challenge", "decline")
                ),
            ),
            four_eyes_minor=round(four_eyes * 10 ** EXPONENTS[currency]),
            house_currency=currency,
            rates=_rates(environment),
            # Labels mature after 30 days: by then every case has ended, unless the mesh stood still.
            expiry_ms=environment.duration_ms(
                "WEIR_REVIEW_EXPIRY", defaults.expiry_ms, 60_000, LOOP_RETENTION_MS - LOOK_BACK_MARGIN_MS - DAY_MS
            ),
        )
        if rules.sla_ms >= rules.expiry_ms:
            environment.refuse(
                f"WEIR_REVIEW_SLA is {rules.sla_ms} ms and WEIR_REVIEW_EXPIRY {rules.expiry_ms} ms: a case would "
                "expire before it is overdue; let the expiry be longer"
            )
        return cls(
            redis=environment.text("WEIR_REDIS", "redis://127.0.0.1:6379/0"),
            partitions=environment.integer("WEIR_PARTITIONS", DATA_PARTITIONS_DEFAULT, minimum=1, maximum=200),
            rules=rules,
        )


def _rates(environment: Environment) -> dict[str, float]:
    """``USD:0.92,JPY:0.0061``: what one unit of a currency is worth in the house currency."""
    form = "CURRENCY:RATE,... such as USD:0.92,JPY:0.0061"
    one = r"[A-Z]{3}:[0-9]{1,9}(\.[0-9]{1,9})?"
    text = environment.text("WEIR_REVIEW_RATES", "", pattern=rf"{one}(,{one})*", form=form)
    rates = {code: float(rate) for code, _, rate in (entry.partition(":") for entry in text.split(",") if entry)}
    if wrong := [code for code, rate in rates.items() if code not in EXPONENTS or rate <= 0]:
        environment.refuse(
            f"WEIR_REVIEW_RATES={text}: {', '.join(wrong)} is no currency with a rate above 0; write {form}"
        )
        return {}
    return rates
