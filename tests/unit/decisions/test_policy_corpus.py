"""A corpus of wrong policies: together with those of test_policy.py more than 200, each refused in one clear line.

Cycles, unknown names, wrong types, typos, absurd numbers, and what somebody writes who hopes that it is evaluated.
"""

from __future__ import annotations

import pytest

from services.decisions.mistakes import PolicyError
from services.decisions.policy import load_policy
from tests.unit.decisions.scored_events import FEATURES
from tests.unit.decisions.test_policy import WRONG as SIMPLER

FULL = """name: 2026-12
owner: payments-risk
approval: two_people
lists:
  blocked: {of: terminal_id, effect: block, reason: Terminal is blocked., values: [t1, t2]}
  home: {of: country, values: [FR, DE]}
  known_money: {of: currency, values: [EUR, USD]}
definitions:
  abroad: country not in home
  in_known_money: currency in known_money
  times_usual: amount / customer_amount_mean_30d
  far_above: times_usual > 5 and in_known_money and abroad
  place: coalesce(country, "unknown")
rules:
  - name: burst
    velocity: {of: customer_count, within: 5m, at_least: 10}
    action: decline
    reason: Ten payments in five minutes.
    expected_rate: 0.002
  - name: delayed
    velocity: {of: terminal_fraud_rate, within: 7d, delay: 7d, at_least: 0.5}
    when: amount > 20
    action: review
    reason: A place known for fraud.
  - name: spree
    when: abroad and far_above
    action: challenge
    reason: High and far from home.
    owner: travel-team
    expected_rate: 0.01
thresholds:
  segments:
    - name: high
      when: amount >= 500 and in_known_money
      review: 0.3
      expected_loss: {currencies: [EUR, USD], review: 50, decline: 900}
  default:
    challenge: 0.2
    review: 0.5
    decline: 0.9
review:
  per_day: 400
  over_budget: challenge
  high_stakes: {when: amount >= 10000 and in_known_money, reason: A person decides.}
  low_confidence:
    when: challenger_gap >= 0.3 or missing_features > 5
    reason: Two models disagree.
fuse:
  window: 1h
  factor: 10
  events_min: 500
  cool_down: 6h
control_group: {share: 0.01, when: amount < 100, salt: autumn}
passthrough: {share: 0.01, when: amount < 100}
bootstrap:
  rules:
    - {name: early, when: amount > 1000, action: review, reason: High amount.}
fallback:
  applies_to: [fallback, stale]
  thresholds: {review: 0.4}
"""

# ruff: noqa: E501  one case a line reads best, and the messages are as long as they are
# What stands there, what is written instead, the line of the mistake, how its message begins.
WRONG: list[tuple[str, str, int, str]] = [
    ("country not in home\n", "abroad or amount > 1\n", 9, "definition `abroad` goes in a circle: abroad uses abroad; write one of them out"),
    ("country not in home\n", "far_above or amount > 1\n", 9, "definition `abroad` goes in a circle: abroad uses far_above uses abroad; write one of them out"),
    ("times_usual > 5 and in_known_money and abroad", "place == \"FR\" and distant", 12, "definition `far_above`: unknown name `distant` in `place == \"FR\" and distant`; known are abroad, amount, amoun"),
    ("amount / customer_amount_mean_30d", "abroad + 1", 11, "definition `times_usual`: `+` needs a number but is given true or false in `abroad + 1`; use a number there"),
    ("amount / customer_amount_mean_30d", "amount / customer_amount_mean_31d", 11, "definition `times_usual`: unknown name `customer_amount_mean_31d` in `amount / customer_amount_mean_31d`; did "),
    ("amount / customer_amount_mean_30d", "amount /", 11, "definition `times_usual`: condition `amount /` ends where a value must come; complete or remove it"),
    ("amount / customer_amount_mean_30d", "amount / 0", 11, "definition `times_usual`: division by 0 in `amount / 0` is always missing; divide by something"),
    ("amount / customer_amount_mean_30d", "3", 11, "definition `times_usual`: `3` reads nothing of the event; write the value where it is used"),
    ("amount / customer_amount_mean_30d", "[1, 2]", 11, "times_usual of definitions is a list; write one value"),
    ("amount / customer_amount_mean_30d", "", 11, "definitions has no times_usual; write an expression"),
    ("  place: coalesce", "  amount: coalesce", 13, "definition `amount` has the name of a column, list, function or word; rename it"),
    ("  place: coalesce", "  home: coalesce", 13, "definition `home` has the name of a column, list, function or word; rename it"),
    ("  place: coalesce", "  Place: coalesce", 13, "definition is named `Place`; write small letters, digits and _, beginning with a letter, at most 60"),
    ("  place: coalesce", "  lower: coalesce", 13, "definition `lower` has the name of a column, list, function or word; rename it"),
    ("  place: coalesce", "  missing: coalesce", 13, "definition `missing` has the name of a column, list, function or word; rename it"),
    ("  place: coalesce", "  abroad: coalesce", 13, "`abroad` is here a second time, first on line 9; keep one"),
    ("coalesce(country, \"unknown\")", "coalesce(country, 0)", 13, "definition `place`: coalesce() in `coalesce(country, 0)` mixes types; give it only numbers, or only texts"),
    ("abroad and far_above", "abrod and far_above", 26, "rule `spree`: unknown name `abrod` in `abrod and far_above`; did you mean abroad?"),
    ("abroad and far_above", "abroad and times_usual", 26, "rule `spree`: `and` needs true or false but is given a number in `abroad and times_usual`; write a comparison "),
    ("abroad and far_above", "place > 5", 26, "rule `spree`: a text is compared with a number in `place > 5`; compare like with like"),
    ("abroad and far_above", "abroad > 5", 26, "rule `spree`: true or false is compared in `abroad > 5`; write the condition itself, or not"),
    ("abroad and far_above", "country in abroad", 26, "rule `spree`: unknown list `abroad` in `country in abroad`; known are blocked, home, known_money"),
    ("abroad and far_above", "far_above(amount)", 26, "rule `spree`: unknown function `far_above` in `far_above(amount)`; known are abs, coalesce, contains, ends_wit"),
    ("of: customer_count, within", "of: customer_cont, within", 16, "of of velocity is `customer_cont`; did you mean customer_count or customer_amount_mean?"),
    ("of: customer_count, within", "of: customer_count_5m, within", 16, "of of velocity is `customer_count_5m`; did you mean customer_count or customer_amount_mean?"),
    ("of: customer_count, within", "of: amount, within", 16, "of of velocity is `amount`; known are customer_amount_mean, customer_count, terminal_count, terminal_fraud_rat"),
    ("of: customer_count, within", "of: device_count, within", 16, "of of velocity is `device_count`; did you mean terminal_count or customer_count?"),
    ("within: 5m, at_least", "within: 10m, at_least", 16, "customer_count has no window `10m`; known are 1d, 1h, 30d, 5m, 7d"),
    ("within: 5m, at_least", "within: 5 minutes, at_least", 16, "customer_count has no window `5 minutes`; known are 1d, 1h, 30d, 5m, 7d"),
    ("within: 5m, at_least", "at_least", 16, "velocity has no within; write the window, such as within: 5m"),
    ("within: 5m, at_least: 10", "within: 5m", 16, "velocity has no at_least; write from which value on it hits, such as at_least: 10"),
    ("within: 5m, at_least: 10", "within: 5m, at_least: ten", 16, "at_least of velocity is `ten`; write from which value on it hits, such as at_least: 10"),
    ("within: 5m, at_least: 10", "within: 5m, at_least: -3", 16, "at_least of velocity is `-3`; write from which value on it hits, such as at_least: 10"),
    ("within: 5m, at_least: 10", "within: 5m, at_least: 1e30", 16, "at_least of velocity is `1e30`; write from which value on it hits, such as at_least: 10"),
    ("within: 5m, at_least: 10", "within: 5m, more_than: 10", 16, "velocity has an unknown key `more_than`; known are at_least, delay, of, within"),
    ("of: customer_count, within: 5m", "within: 5m", 16, "velocity has no of; write what is counted, such as of: customer_count"),
    ("within: 7d, delay: 7d", "within: 7d, delay: 3d", 21, "terminal_fraud_rate has no window `7d with delay 3d`; did you mean 7d with delay 7d or 1d with delay 7d?"),
    ("within: 7d, delay: 7d", "within: 7d", 21, "terminal_fraud_rate has no window `7d`; known are 1d with delay 7d, 30d with delay 7d, 7d with delay 7d"),
    ("velocity: {of: customer_count, within: 5m, at_least: 10}", "velocity: customer_count_5m >= 10", 16, "velocity of rule `burst` is a single value; write `key: value` lines below it"),
    ("velocity: {of: customer_count, within: 5m, at_least: 10}", "velocety: {of: customer_count, within: 5m, at_least: 10}", 16, "rule `burst` has an unknown key `velocety`; did you mean velocity?"),
    ("    when: amount > 20", "    when: amonut > 20", 22, "rule `delayed`: unknown name `amonut` in `amonut > 20`; did you mean amount?"),
    ("expected_rate: 0.002", "expected_rate: 0", 19, "expected_rate of rule `burst` is `0`; write the share of events that it should hit, above 0 and at most 1, suc"),
    ("expected_rate: 0.002", "expected_rate: 2", 19, "expected_rate of rule `burst` is `2`; write the share of events that it should hit, above 0 and at most 1, suc"),
    ("expected_rate: 0.002", "expected_rate: 0.2%", 19, "expected_rate of rule `burst` is `0.2%`; write the share of events that it should hit, above 0 and at most 1, "),
    ("expected_rate: 0.002", "expected_rate: rare", 19, "expected_rate of rule `burst` is `rare`; write the share of events that it should hit, above 0 and at most 1, "),
    ("expected_rate: 0.002", "expected_rate: -0.1", 19, "expected_rate of rule `burst` is `-0.1`; write the share of events that it should hit, above 0 and at most 1, "),
    ("expected_rate: 0.002", "expectd_rate: 0.002", 19, "rule `burst` has an unknown key `expectd_rate`; did you mean expected_rate?"),
    ("owner: travel-team", "owner: [a, b]", 29, "owner of rule `spree` is a list; write one value"),
    ("owner: travel-team", f"owner: {'x' * 300}", 29, "owner of rule `spree` has 300 characters; 200 are allowed"),
    ("currencies: [EUR, USD], review", "currencies: [EUR, EURO], review", 36, "currencies of expected_loss of segment high holds `EURO`; did you mean EUR?"),
    ("currencies: [EUR, USD], review", "currencies: [], review", 36, "currencies of expected_loss of segment high is empty; write at least one, such as EUR"),
    ("currencies: [EUR, USD], review", "currencies: EUR, review", 36, "currencies of expected_loss is a single value; write a list, each item after a dash"),
    ("currencies: [EUR, USD], review", "review", 36, "expected_loss has no currencies; write currencies: [EUR], a thousand yen is no loss of a thousand euros"),
    ("currencies: [EUR, USD], review", "currency: [EUR], review", 36, "expected_loss has an unknown key `currency`; did you mean currencies?"),
    ("review: 50, decline: 900", "review: 50, decline: 20", 36, "expected_loss of segment high has decline: 20 but review: 50, which then never acts; put review below 20 or re"),
    ("review: 50, decline: 900", "review: -5", 36, "review of expected_loss is `-5`; write score times amount in major units, above 0 and at most 1e+09, such as 5"),
    ("review: 50, decline: 900", "review: 1e12", 36, "review of expected_loss is `1e12`; write score times amount in major units, above 0 and at most 1e+09, such as"),
    (", review: 50, decline: 900", "", 36, "expected_loss of segment high has no threshold; write challenge, review or decline: 50"),
    ("review: 50, decline: 900", "approve: 50, decline: 900", 36, "expected_loss has an unknown key `approve`; known are challenge, currencies, decline, review"),
    ("expected_loss: {currencies: [EUR, USD], review: 50, decline: 900}", "expected_loss: 50", 36, "expected_loss of segment `high` is a single value; write `key: value` lines below it"),
    ("per_day: 400", "per_day: -1", 42, "per_day of review is `-1`; write how many reviews a day, 0 to 1000000"),
    ("per_day: 400", "per_day: 400.5", 42, "per_day of review is 400.5, not a whole number; write how many reviews a day, 0 to 1000000"),
    ("per_day: 400", "per_day: many", 42, "per_day of review is `many`; write how many reviews a day, 0 to 1000000"),
    ("per_day: 400", "per_day: 1e9", 42, "per_day of review is `1e9`; write how many reviews a day, 0 to 1000000"),
    ("  per_day: 400\n", "", 42, "review has over_budget but no per_day; write per_day: 400"),
    ("over_budget: challenge", "over_budget: review", 43, "over_budget of review is `review`; known are approve, challenge, decline"),
    ("over_budget: challenge", "over_budget: chalenge", 43, "over_budget of review is `chalenge`; did you mean challenge?"),
    ("high_stakes: {when: amount >= 10000 and in_known_money, reason: A person decides.}", "high_stakes: amount >= 10000", 44, "high_stakes of review is a single value; write `key: value` lines below it"),
    ("high_stakes: {when: amount >= 10000 and in_known_money, reason: A person decides.}", "high_stakes: {reason: A person decides.}", 44, "high_stakes has no when; write the condition under which a person has to look"),
    (", reason: A person decides.}", "}", 44, "high_stakes has no reason; write in one sentence what a person should read"),
    ("high_stakes: {", "high_stake: {", 44, "review has an unknown key `high_stake`; did you mean high_stakes?"),
    ("challenger_gap >= 0.3", "challenger_gap >= 'large'", 46, "low_confidence: a number is compared with a text in `challenger_gap >= 'large' or missing_features > 5`; compa"),
    ("challenger_gap >= 0.3", "chalenger_gap >= 0.3", 46, "low_confidence: unknown name `chalenger_gap` in `chalenger_gap >= 0.3 or missing_features > 5`; did you mean c"),
    ("missing_features > 5", "missing_features is missing", 46, "low_confidence: `missing_features` is never missing; remove the test"),
    ("window: 1h", "window: 1 hour", 49, "window of fuse is `1 hour`; write 1m to 30d, such as 1h"),
    ("window: 1h", "window: 10s", 49, "window of fuse is `10s`; write 1m to 30d, such as 1h"),
    ("window: 1h", "window: 400d", 49, "window of fuse is `400d`; write 1m to 30d, such as 1h"),
    ("window: 1h", "windw: 1h", 49, "fuse has an unknown key `windw`; did you mean window?"),
    ("factor: 10", "factor: 1", 50, "factor of fuse is `1`; write how many times its expected rate is too much, 1.1 to 1000"),
    ("factor: 10", "factor: tenfold", 50, "factor of fuse is `tenfold`; write how many times its expected rate is too much, 1.1 to 1000"),
    ("factor: 10", "factor: 1e9", 50, "factor of fuse is `1e9`; write how many times its expected rate is too much, 1.1 to 1000"),
    ("events_min: 500", "events_min: 0", 51, "events_min of fuse is `0`; write below how many events a rate says nothing, such as 500"),
    ("events_min: 500", "events_min: 2.5", 51, "events_min of fuse is 2.5, not a whole number; write below how many events a rate says nothing, such as 500"),
    ("cool_down: 6h", "cool_down: 0h", 52, "cool_down of fuse is `0h`; write 1m to 30d, such as 6h"),
    ("cool_down: 6h", "cool_down: never", 52, "cool_down of fuse is `never`; write 1m to 30d, such as 6h"),
    ("cool_down: 6h", "cool_down: [6h]", 52, "cool_down of fuse is a list; write one value"),
    ("control_group: {share: 0.01", "control_group: {share: 0.5", 53, "share of control_group is `0.5`; write the share of customers for whom the policy does not act, from 0 to 0.2"),
    ("control_group: {share: 0.01", "control_group: {share: -0.1", 53, "share of control_group is `-0.1`; write the share of customers for whom the policy does not act, from 0 to 0.2"),
    ("control_group: {share: 0.01, when", "control_group: {when", 53, "control_group has no share; write the share of customers for whom the policy does not act, from 0 to 0.2"),
    ("salt: autumn", "slat: autumn", 53, "control_group has an unknown key `slat`; did you mean salt?"),
    ("control_group: {share: 0.01, when: amount < 100", "control_group: {share: 0.01, when: amount <", 53, "control_group: condition `amount <` ends where a value must come; complete or remove it"),
    ("control_group: {share: 0.01, when: amount < 100, salt: autumn}", "control_group: 0.01", 53, "control_group of the policy is a single value; write `key: value` lines below it"),
    ("approval: two_people", "approval: four_eyes", 3, "approval of the policy is `four_eyes`; known are one_person, two_people"),
    ("approval: two_people", "approval: [ann, bob]", 3, "approval of the policy is a list; write one value"),
    ("approval: two_people", "aproval: two_people", 3, "the policy has an unknown key `aproval`; did you mean approval?"),
    ("abroad and far_above", "__import__('os').system('true')", 26, "rule `spree`: unexpected `.` in `__import__('os').system('true')`; attributes are not part of the language: ev"),
    ("abroad and far_above", "().__class__.__bases__ == 1", 26, "rule `spree`: unexpected `.` in `().__class__.__bases__ == 1`; attributes are not part of the language: every "),
    ("abroad and far_above", "lambda: amount > 1", 26, "not YAML: mapping values are not allowed in this context; check the indentation, and quote a text that holds `"),
    ("abroad and far_above", "open('/etc/passwd') == 'x'", 26, "rule `spree`: unknown function `open` in `open('/etc/passwd') == 'x'`; known are abs, coalesce, contains, ends"),
    ("abroad and far_above", "eval('amount > 1')", 26, "rule `spree`: unknown function `eval` in `eval('amount > 1')`; known are abs, coalesce, contains, ends_with, f"),
    ("abroad and far_above", "exec('x')", 26, "rule `spree`: unknown function `exec` in `exec('x')`; known are abs, coalesce, contains, ends_with, floor, hou"),
    ("abroad and far_above", "amount > 1; import os", 26, "rule `spree`: unexpected character `;` in `amount > 1; import os`; remove it"),
    ("abroad and far_above", "amount if amount > 1 else 2", 26, "rule `spree`: unexpected `if` in `amount if amount > 1 else 2`; join conditions with and, or"),
    ("abroad and far_above", "[a for a in country]", 26, "when of rule `spree` is a list; write one value"),
    ("abroad and far_above", "f'{amount}' == 'x'", 26, "rule `spree`: unexpected `'{amount}'` in `f'{amount}' == 'x'`; join conditions with and, or"),
    ("abroad and far_above", "amount := 5", 26, "rule `spree`: unexpected `:` in `amount := 5`; name a column without colons"),
    ("abroad and far_above", "9 ** 9 ** 9 > amount", 26, "rule `spree`: unexpected `**` in `9 ** 9 ** 9 > amount`; powers are not part of the language: multiply"),
    ("abroad and far_above", "{{ amount }} > 1", 26, "not YAML: did not find expected comment or line break; check the indentation, and quote a text that holds `: `"),
    ("abroad and far_above", "${amount} > 1", 26, "rule `spree`: unexpected `$` in `${amount} > 1`; name a column without a sign in front"),
    ("abroad and far_above", "`id` == 'x'", 26, "not YAML: found character that cannot start any token; check the indentation, and quote a text that holds `: `"),
    ("abroad and far_above", "country == 'a' + 'b'", 26, "rule `spree`: `+` needs a number but is given a text in `country == 'a' + 'b'`; use a number there"),
    ("abroad and far_above", "amount > 1e400", 26, "rule `spree`: number `1e400` is absurdly large; the largest allowed is 1e+15"),
    ("abroad and far_above", "amount > 99999999999999999999999999999999999", 26, "rule `spree`: number `99999999999999999999999999999999999` is absurdly large; the largest allowed is 1e+15"),
    ("abroad and far_above", "((((((((((((((((((((((((((((((((((((((((amount > 1))))))))))))))))))))))))))))))))))))))))", 26, "rule `spree`: condition `((((((((((((((((((((((((((((((((((((((((amount > 1)))))))...` nests deeper than 32 le"),
    ("abroad and far_above", " and ".join(["amount > 1"] * 300), 26, "rule `spree`: condition has 4495 characters, 2000 are allowed; split it"),
    ("abroad and far_above", "globals() == 1", 26, "rule `spree`: unknown function `globals` in `globals() == 1`; known are abs, coalesce, contains, ends_with, fl"),
    ("abroad and far_above", "amount.real > 1", 26, "rule `spree`: unexpected `.` in `amount.real > 1`; attributes are not part of the language: every column is on"),
    ("abroad and far_above", "country[0] == 'F'", 26, "rule `spree`: unexpected `[` in `country[0] == 'F'`; join conditions with and, or"),
    ("abroad and far_above", "not", 26, "rule `spree`: condition `not` ends where a value must come; complete or remove it"),
    ("abroad and far_above", "amount > > 1", 26, "rule `spree`: `>` stands where a value must come in `amount > > 1`; put a value before it"),
    ("abroad and far_above", "amount => 1", 26, "rule `spree`: unexpected `=` in `amount => 1`; write == to compare"),
    ("abroad and far_above", "amount == NaN", 26, "rule `spree`: unknown name `NaN` in `amount == NaN`; known are abroad, amount, amount_minor, challenger_gap, c"),
    ("abroad and far_above", "amount < Infinity", 26, "rule `spree`: unknown name `Infinity` in `amount < Infinity`; known are abroad, amount, amount_minor, challeng"),
    ("abroad and far_above", "select * from events", 26, "rule `spree`: unexpected `events` in `select * from events`; join conditions with and, or"),
    ("abroad and far_above", "amount between 1 and 2", 26, "rule `spree`: unexpected `between` in `amount between 1 and 2`; join conditions with and, or"),
    ("abroad and far_above", "country like 'F%'", 26, "rule `spree`: unexpected `like` in `country like 'F%'`; join conditions with and, or"),
    ("abroad and far_above", "score > 0.5 ? true : false", 26, "not YAML: mapping values are not allowed in this context; check the indentation, and quote a text that holds `"),
]  # fmt: skip


def mistakes(text: str) -> PolicyError:
    with pytest.raises(PolicyError) as refused:
        load_policy(text, "p.yaml", FEATURES)
    return refused.value


def test_the_policy_to_break_is_right_and_the_corpus_is_large() -> None:
    assert load_policy(FULL, "p.yaml", FEATURES).declared.two_people
    assert len({(right, wrong) for right, wrong, *_ in [*WRONG, *SIMPLER]}) >= 200


@pytest.mark.parametrize(("right", "wrong", "line", "message"), WRONG, ids=[str(n) for n in range(len(WRONG))])
def test_it_is_refused_in_one_line_with_value_and_remedy(right: str, wrong: str, line: int, message: str) -> None:
    assert FULL.count(right) == 1, f"{right!r} must stand once in the policy to break"
    error = mistakes(FULL.replace(right, wrong))
    found = [mistake for mistake in error.mistakes if mistake.text.startswith(message)]
    assert [mistake.line for mistake in found] == [line], error
    assert all(";" in mistake.text for mistake in error.mistakes), "there is a remedy"
    assert all(mistake.text.isprintable() and len(mistake.text) < 420 for mistake in error.mistakes)
    assert len(error.mistakes) <= 2, "one mistake is said once, not by everything that it breaks"


def test_definitions_that_double_again_and_again_are_refused_before_they_grow() -> None:
    doubling = "".join(f"  d{n}: d{n - 1} and d{n - 1}\n" for n in range(1, 40))
    error = mistakes(FULL.replace("definitions:\n", f"definitions:\n  d0: amount > 1\n{doubling}"))
    assert "with its definitions put in, the condition has" in error.mistakes[0].text
    assert len(error.mistakes) < 40


def test_definitions_that_nest_deeper_and_deeper_are_refused() -> None:
    deep = "".join(f"  d{n}: {'(not ' * 8}d{n - 1}{')' * 8}\n" for n in range(1, 30))
    error = mistakes(FULL.replace("definitions:\n", f"definitions:\n  d0: amount > 1\n{deep}"))
    assert "levels; 96 are allowed" in error.mistakes[0].text


def test_a_definition_means_what_it_stands_for_wherever_it_stands_in_the_file() -> None:
    """Definitions may use others that come later."""
    shuffled = FULL.replace("  abroad: country not in home\n", "").replace(
        "  place: coalesce", "  abroad: country not in home\n  place: coalesce"
    )
    assert shuffled != FULL
    rules = {rule.name: rule for rule in load_policy(shuffled, "p.yaml", FEATURES).rules}
    assert rules["spree"].condition.reads == {"country", "amount", "customer_amount_mean_30d", "currency"}
    assert [leaf.text for leaf in rules["spree"].condition.leaves] == [
        "country not in home",
        "(amount / customer_amount_mean_30d) > 5",
        "currency in known_money",
        "country not in home",
    ]
