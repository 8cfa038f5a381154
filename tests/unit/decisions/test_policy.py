"""Loading: what is wrong is said once, with its line and remedy; the version follows the content."""

from __future__ import annotations

import hashlib
import random

import pytest

from services.decisions.document import CHARACTERS_MAX
from services.decisions.mistakes import PolicyError
from services.decisions.policy import Policy, load_policy
from services.decisions.precedence import RESERVED_CODES
from services.mesh.errors import Fatal
from tests.unit.decisions.scored_events import DEFAULT_TEXT, FEATURES, columns_of, decide, rule
from tests.unit.decisions.scored_events import policy as policy_of

GOOD = """name: 2026-11
description: A policy to break.
owner: payments-risk
lists:
  blocked:
    of: terminal_id
    effect: block
    reason: Terminal is blocked.
    values: [t1, t2]
  home: {of: country, values: [FR, DE]}
  words: [a, b]
rules:
  - name: burst
    when: customer_count_5m >= 10
    action: decline
    code: velocity
    reason: Too many payments.
  - name: abroad
    when: |
      amount > 100
      and country not in home
    action: review
    reason: Far from home.
thresholds:
  segments:
    - name: high
      when: amount >= 500
      review: 0.3
      decline: 0.7
  default: {challenge: 0.2, review: 0.5, decline: 0.9}
bootstrap:
  rules:
    - name: early
      when: amount > 1000
      action: review
      reason: High amount.
fallback:
  applies_to: [fallback, stale]
  thresholds: {challenge: 0.1, decline: 0.6}
passthrough:
  share: 0.01
  when: amount < 50
"""


def load(text: str) -> Policy:
    return load_policy(text, "p.yaml", FEATURES)


def mistakes_of(text: str) -> PolicyError:
    with pytest.raises(PolicyError) as refused:
        load(text)
    return refused.value


def when(text: str) -> tuple[str, str]:
    """Replace the condition of the rule `burst`."""
    return "customer_count_5m >= 10", text


# ruff: noqa: E501  one case a line reads best, and the messages are as long as they are
WRONG: list[tuple[str, str, int, str]] = [
    # names: what is written instead, the line of the mistake, a part of the message that shows value and remedy
    (*when("customer_count_5min >= 10"), 14, "unknown name `customer_count_5min` in `customer_count_5min >= 10`; did you mean customer_count_5m"),
    (*when("customer_cnt_5m >= 10"), 14, "did you mean customer_count_5m"),
    (*when("ammount >= 10"), 14, "unknown name `ammount` in `ammount >= 10`; did you mean amount or amount_minor?"),
    (*when("Amount >= 10"), 14, "unknown name `Amount` in `Amount >= 10`; did you mean amount"),
    (*when("terminal_known_fraud_rate_2d > 0.5"), 14, "did you mean terminal_known_fraud_rate_"),
    (*when("qqq == 1"), 14, "unknown name `qqq` in `qqq == 1`; known are amount, "),
    (*when("event_id == 'e1'"), 14, "unknown name `event_id`"),
    (*when("amount > 10 and country in hom"), 14, "unknown list `hom` in `amount > 10 and country in hom`; did you mean home?"),
    (*when("hour(event_time_ms) > 3"), 14, "unknown function `hour` in `hour(event_time_ms) > 3`; did you mean hour_utc?"),
    (*when("regex(country, 'F.*')"), 14, "unknown function `regex`"),
    # types
    (*when("amount > 'ten'"), 14, "a number is compared with a text in `amount > 'ten'`; compare like with like"),
    (*when("country > 'FR'"), 14, "texts have no order for `>` in `country > 'FR'`; use ==, != or in"),
    (*when("amount"), 14, "condition `amount` is a number, not true or false; compare it"),
    (*when("country"), 14, "condition `country` is a text, not true or false; compare it"),
    (*when("amount and country == 'FR'"), 14, "`and` needs true or false but is given a number in `amount and country == 'FR'`"),
    (*when("not amount"), 14, "`not` needs true or false but is given a number in `not amount`; write a comparison there"),
    (*when("amount + country > 1"), 14, "`+` needs a number but is given a text in `amount + country > 1`; use a number there"),
    (*when("lower(amount) == 'x'"), 14, "`lower` needs a text but is given a number"),
    (*when("abs(country) > 1"), 14, "`abs` needs a number but is given a text"),
    (*when("abs(amount, 2) > 1"), 14, "abs() is given 2 arguments; write it as in abs(amount - 100)"),
    (*when("min(amount) > 1"), 14, "min() is given 1 arguments; write it as in min(amount, 100)"),
    (*when("coalesce(country, 0) == 'x'"), 14, "coalesce() in `coalesce(country, 0) == 'x'` mixes types"),
    (*when("starts_with(country, device_id)"), 14, "starts_with() looks only for a text in quotes; write it as in"),
    (*when("(amount > 1) == true"), 14, "true or false is compared in `(amount > 1) == true`; write the condition itself"),
    (*when("country in [1, 2]"), 14, "a text is looked up among other types in `country in [1, 2]`"),
    (*when("amount in home"), 14, "list `home` holds texts but a number is looked up; compare numbers with [1, 2]"),
    (*when("terminal_id in home"), 14, "list `home` holds values of country, not of terminal_id; write `country in home`"),
    (*when("country in country"), 14, "`country` after `in` is a column, not a list; compare it with =="),
    (*when("country in 'FR'"), 14, "`in` needs a list in `country in 'FR'`; write [..., ...]"),
    (*when("country in []"), 14, "list of 0 values in `country in []`; put at least one value in it"),
    (*when("country in [home]"), 14, "list `home` stands in brackets; write `in home` without them"),
    (*when("country in [amount > 1]"), 14, "may hold only numbers or texts; quote a text"),
    (*when("country in [FR, DE]"), 14, "may hold only numbers or texts; quote a text"),
    (*when("home == 'FR'"), 14, "`home` is a list; write `column in home`"),
    (*when("hour_utc > 3"), 14, "`hour_utc` is a function; write hour_utc(event_time_ms)"),
    # what can only be misunderstood
    (*when("country == null"), 14, "null in `country == null` compares with nothing; write `is missing`"),
    (*when("country is null"), 14, "write `is missing` or `is not missing`"),
    (*when("amount is missing"), 14, "`amount` is never missing; remove the test"),
    (*when("(amount > 1) is missing"), 14, "a condition is never missing"),
    (*when("1 == 1"), 14, "condition `1 == 1` reads nothing of the event; write true if always is meant"),
    (*when("amount / 0 > 1"), 14, "division by 0 in `amount / 0 > 1` is always missing"),
    (*when("score > 90"), 14, "score is compared with 90; a probability ends at 1; write 0.9?"),
    (*when("feature_status == 'fallbak'"), 14, "feature_status is never `fallbak`; did you mean fallback?"),
    (*when("feature_status in ['stael']"), 14, "feature_status is never `stael`; did you mean stale?"),
    # syntax
    (*when("amount >"), 14, "`amount >` ends where a value must come; complete or remove it"),
    (*when("amount = 10"), 14, "unexpected `=` in `amount = 10`; write == to compare"),
    (*when("amount > 1 && amount < 2"), 14, "unexpected `&&` in `amount > 1 && amount < 2`; write and"),
    (*when("amount > 1 || amount < 2"), 14, "write or"),
    (*when("amount <> 1"), 14, "write !="),
    (*when("amount > 1 amount < 2"), 14, "unexpected `amount` in `amount > 1 amount < 2`; join conditions with and, or"),
    (*when("(amount > 1"), 14, "expected ) before the end in `(amount > 1`; close the bracket"),
    (*when("country == 'FR"), 14, "text `'FR` can't be read; close it with '"),
    (*when("country == “FR”"), 14, "write plain quotes"),
    (*when("amount > 10%"), 14, "write a share as 0.05"),
    (*when("amount > 10EUR"), 14, "`10E` is neither a number nor a name"),
    (*when("country not home"), 14, "expected in before `home`"),
    (*when("country in @home"), 14, "name a list without a sign in front"),
    (*when("customer.count > 1"), 14, "attributes are not part of the language"),
    (*when("amount > 1e16"), 14, "number `1e16` is absurdly large; the largest allowed is 1e+15"),
    (*when('""'), 14, "ends where a value must come; write one, or `true` for always"),
    ("and country not in home", "and country not in hme", 21, "unknown list `hme`"),
    ("      amount > 100\n", "      amnt > 100\n", 20, "unknown name `amnt`"),
    # the shape of the file
    ("owner: payments-risk", "ownr: payments-risk", 1, "the policy has no owner; write who answers for this policy"),
    ("name: 2026-11", "name: Christmas Rules!", 1, "name of the policy is `Christmas Rules!`; write small letters"),
    ("name: 2026-11\n", "", 1, "the policy has no name; write small letters"),
    ("name: 2026-11", "name: [a]", 1, "name of the policy is a list; write one value"),
    ("owner: payments-risk", "owner: payments-risk\nvalid_until: 2027", 4, "the policy has an unknown key `valid_until`"),
    ("    action: review\n    reason: Far", "    acton: review\n    reason: Far", 22, "rule `abroad` has an unknown key `acton`; did you mean action?"),
    ("action: decline", "action: deny", 15, "action of rule `burst` is `deny`; known are approve, challenge, decline, review"),
    ("action: decline", "action: declin", 15, "action of rule `burst` is `declin`; did you mean decline?"),
    ("action: decline", "action:", 15, "rule `burst` has no action; write approve, challenge, review or decline"),
    ("name: abroad", "name: burst", 18, "rule `burst` is declared a second time, first on line 13; rename one"),
    ("name: early", "name: burst", 33, "rule `burst` is declared a second time, first on line 13; rename one"),
    ("name: burst", "name: Burst!", 13, "name of rule `Burst!` is `Burst!`; write small letters"),
    ("code: velocity", "code: Velocity 1", 16, "code of rule `burst` is `Velocity 1`"),
    ("code: velocity", "code: score_missing", 16, "code `score_missing` is one of Weir's own reason codes; choose another"),
    ("    reason: Too many payments.\n", "", 13, "rule `burst` has no reason; write in one sentence"),
    ("reason: Too many payments.", 'reason: "a\\ab"', 17, "remove its control characters"),
    ("reason: Too many payments.", f"reason: {'long ' * 60}", 17, "characters; 200 are allowed"),
    ("  - name: burst", "  - burst\n  - name: burst", 13, "rule number 1 is a single value; write it as `name: ...` lines"),
    ("    code: velocity", "    code: velocity\n    action: review", 17, "`action` is here a second time, first on line 15; keep one"),
    # lists
    ("effect: block", "effect: deny", 7, "effect of list `blocked` is `deny`; known are allow, block"),
    ("of: terminal_id", "of: terminal", 6, "of of list `blocked` is `terminal`; did you mean terminal_id?"),
    ("    of: terminal_id\n", "", 5, "list `blocked` has no of; write which column is looked up in it"),
    ("    reason: Terminal is blocked.\n", "", 5, "list `blocked` has no reason"),
    ("values: [t1, t2]", "values: [t1, t2, t1]", 9, "list `blocked` holds `t1` twice, first on line 9; keep one"),
    ("values: [t1, t2]", "values: [t1, ' t2']", 9, "list `blocked` holds ' t2'; remove spaces"),
    ("values: [t1, t2]", "values: [t1, ~]", 9, "holds something that is not a text; write one id an item"),
    ("values: [t1, t2]", "values: [t1, [t2]]", 9, "holds something that is not a text"),
    ("values: [t1, t2]", "values: t1", 9, "values of list `blocked` is a single value; write a list"),
    ("words: [a, b]", "words: a", 11, "list `words` is a single value; write [first, second]"),
    ("words: [a, b]", "amount: [a, b]", 11, "list `amount` has the name of a column, function or word"),
    ("words: [a, b]", "missing: [a, b]", 11, "list `missing` has the name of a column, function or word"),
    ("words: [a, b]", "Big Words: [a, b]", 11, "list is named `Big Words`"),
    # thresholds, fallback, pass-through
    ("decline: 0.9}", "decline: 90}", 30, "decline of default is `90`; a threshold is a probability above 0 and at most 1"),
    ("decline: 0.9}", "decline: high}", 30, "decline of default is `high`"),
    ("decline: 0.9}", "decline: nan}", 30, "decline of default is `nan`"),
    ("decline: 0.9}", "decline: 1e999}", 30, "decline of default is `1e999`"),
    ("review: 0.5, decline: 0.9}", "review: 0.9, decline: 0.9}", 30, "the default segment has decline: 0.9 but review: 0.9, which then never acts"),
    ("decline: 0.7", "decline: 0.1", 29, "segment high has decline: 0.1 but review: 0.3"),
    ("      review: 0.3\n      decline: 0.7\n", "", 26, "segment high has no threshold"),
    ("    - name: high\n      when: amount >= 500\n", "    - name: high\n", 26, "segment `high` has no when"),
    ("  default: {challenge: 0.2, review: 0.5, decline: 0.9}\n", "", 24, "thresholds has no default"),
    ("challenge: 0.1, decline: 0.6", "challenge: 0.2, decline: 0.6", 39, "challenge of the fallback section is 0.2, not stricter than the default's 0.2; write less than 0.2"),
    ("[fallback, stale]", "[fallback, old]", 38, "applies_to of fallback holds `old`; known are fallback, saturated, stale"),
    ("[fallback, stale]", "[stale]", 38, "leaves out fallback itself; add it"),
    ("[fallback, stale]", "[]", 38, "leaves out fallback itself; add it"),
    ("  applies_to: [fallback, stale]\n", "", 37, "fallback has no applies_to"),
    ("share: 0.01", "share: 0.5", 41, "share of passthrough is `0.5`; write the share of would-be declines to let through, from 0 to 0.2"),
    ("share: 0.01", "share: 1%", 41, "share of passthrough is `1%`"),
    ("  share: 0.01\n", "", 40, "passthrough has no share"),
    ("when: amount < 50", "when: amont < 50", 42, "unknown name `amont`"),
    # YAML itself
    ("owner: payments-risk", "owner: &a payments-risk", 3, "anchor or alias `a`; write the value out"),
    ("owner: payments-risk", "owner: *a", 3, "anchor or alias `a`"),
    ("owner: payments-risk", "owner: !!python/object/apply:os.system [ls]", 3, "tag `tag:yaml.org,2002:python/object/apply:os.system`; remove it"),
    ("owner: payments-risk", "owner: !!str x", 3, "tag `tag:yaml.org,2002:str`; remove it"),
    ("owner: payments-risk", "owner: " + "[" * 2_000 + "]" * 2_000, 3, "nested deeper than 8 levels"),
    ("owner: payments-risk", "owner: a: b", 3, "not YAML: "),
    ("owner: payments-risk", "owner: payments-risk\n\tx: 1", 4, "not YAML: "),
    ("owner: payments-risk", "owner: 'never closed", 3, "not YAML: "),
    ("owner: payments-risk", "owner: \x00", 1, "not YAML: "),
    ("owner: payments-risk", "owner: payments-risk\n[a]: b", 4, "a key is not a text; write `name: value`"),
    ("passthrough:\n", "---\npassthrough:\n", 40, "a second document starts; one file holds one policy"),
]  # fmt: skip


def test_the_policy_to_break_is_right() -> None:
    assert load(GOOD).declared.owner == "payments-risk"
    assert len(WRONG) >= 60


@pytest.mark.parametrize(
    ("right", "wrong", "line", "message"), WRONG, ids=[f"{i}-{w[3][:50]}" for i, w in enumerate(WRONG)]
)
def test_a_wrong_policy_is_refused_with_line_value_and_remedy(right: str, wrong: str, line: int, message: str) -> None:
    assert GOOD.count(right) == 1, f"{right!r} must stand once in the policy to break"
    error = mistakes_of(GOOD.replace(right, wrong))
    texts = {mistake.text: mistake.line for mistake in error.mistakes}
    fitting = [text for text in texts if message in text]
    assert fitting, texts
    assert texts[fitting[0]] == line
    assert all("\n" not in text and text.isprintable() and len(text) < 420 for text in texts)
    assert ";" in fitting[0], "there is a remedy"


def test_all_mistakes_come_at_once_in_the_order_of_the_file() -> None:
    text = GOOD.replace("customer_count_5m >= 10", "customer_cnt_5m >= 10 and amout > 1").replace(
        "share: 0.01", "share: 7"
    )
    error = mistakes_of(text.replace("effect: block", "effect: bar"))
    assert [mistake.line for mistake in error.mistakes] == [7, 14, 14, 41]
    first, *rest = str(error).splitlines()
    assert first == "p.yaml: refused for 4 mistakes"
    assert [line.split(": ")[0] for line in rest] == ["  p.yaml:7", "  p.yaml:14", "  p.yaml:14", "  p.yaml:41"]


def test_a_single_mistake_is_a_single_line_and_fatal() -> None:
    error = mistakes_of(GOOD.replace("amount < 50", "amont < 50"))
    assert isinstance(error, Fatal)
    assert str(error) == ("p.yaml:42: passthrough: unknown name `amont` in `amont < 50`; did you mean amount?")


@pytest.mark.parametrize("section", ["thresholds", "bootstrap", "fallback"])
def test_a_section_that_decides_may_not_be_left_out(section: str) -> None:
    lines = GOOD.splitlines(keepends=True)
    start = lines.index(f"{section}:\n")
    end = next((i for i in range(start + 1, len(lines)) if not lines[i].startswith(" ")), len(lines))
    error = mistakes_of("".join(lines[:start] + lines[end:]))
    assert f"the policy has no {section}; write `{section}:`" in str(error)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "just text", "[a, b]", "---\n", "null"])
def test_what_is_no_policy_at_all_is_told_where_to_look(text: str) -> None:
    assert "see schemas/payments/policy.yaml" in str(mistakes_of(text))


def test_a_file_without_end_is_not_read() -> None:
    assert "are allowed" in str(mistakes_of(GOOD + "#" * CHARACTERS_MAX))


def test_values_of_a_list_are_taken_as_written() -> None:
    loaded = policy_of(
        lists="odd: {of: country, effect: block, reason: Odd., values: [NO, 007, 1_000, on, 1e3, null-ish]}"
    )
    for value in ("NO", "007", "1_000", "on", "1e3", "null-ish"):
        assert decide(loaded, country=value).action == "decline", value
    for value in ("7", "1000", "false", "1000.0", "no"):
        assert decide(loaded, country=value).action == "approve", value


def test_the_version_is_the_name_and_the_content() -> None:
    loaded = load(GOOD)
    assert loaded.version == f"2026-11-{hashlib.sha256(GOOD.encode()).hexdigest()[:8]}"
    assert load(GOOD).version == loaded.version
    changed = {
        load(GOOD.replace(*change)).version for change in [(">= 10", ">= 11"), ("0.9}", "0.91}"), ("t1, t2", "t1, t3")]
    }
    assert len(changed | {loaded.version}) == 4
    assert load(GOOD.replace("2026-11", "2026-12")).version.startswith("2026-12-")


def test_the_same_file_with_another_feature_set_is_checked_anew() -> None:
    with pytest.raises(PolicyError, match="unknown name `customer_count_5m`"):
        load_policy(GOOD, "p.yaml", ["amount", "customer_count_1h"])


@pytest.mark.parametrize("seed", range(40))
def test_any_damage_to_a_policy_is_a_policy_or_a_policy_error(seed: int) -> None:
    draw = random.Random(seed)
    lines = DEFAULT_TEXT.splitlines(keepends=True)
    for _ in range(3):
        at, other = draw.randrange(len(lines)), draw.randrange(len(lines))
        match draw.randrange(4):
            case 0:
                del lines[at]
            case 1:
                lines[at], lines[other] = lines[other], lines[at]
            case 2:
                cut = draw.randrange(len(lines[at]))
                lines[at] = lines[at][:cut] + draw.choice("{}[]:'\"#&*!|>%@`,?- \t0aé\x07") + lines[at][cut:]
            case _:
                lines[at] = lines[at][: draw.randrange(len(lines[at]))] + "\n"
    try:
        loaded = load("".join(lines))
    except PolicyError:
        return
    assert len(loaded.decide(columns_of({}, {}))) == 2


class TestDefaultPolicy:
    """The policy that ships."""

    LOADED = load_policy(DEFAULT_TEXT, "schemas/payments/policy.yaml", FEATURES)

    def test_an_ordinary_payment_is_approved_in_every_season(self) -> None:
        for model in ("m-1", "bootstrap"):
            for status in ("ok", "saturated", "stale", "fallback"):
                assert decide(self.LOADED, model_version=model, feature_status=status).action == "approve"

    @pytest.mark.parametrize(
        ("event", "action"),
        [
            ({"score": 0.95}, "decline"),
            ({"score": 0.4}, "review"),
            ({"score": 0.15}, "challenge"),
            ({"score": 0.15, "amount": 1_500.0}, "challenge"),
            ({"score": 0.25, "amount": 1_500.0}, "review"),
            ({"score": 0.25, "amount": 5.0}, "approve"),
            ({"customer_count_5m": 10}, "decline"),
            ({"amount": 20_000.0}, "review"),
            ({"amount": 20_000.0, "currency": "JPY"}, "approve"),
            ({"terminal_known_labels_7d": 12, "terminal_known_fraud_rate_7d": 0.9}, "decline"),
            ({"terminal_known_labels_7d": 2, "terminal_known_fraud_rate_7d": 1.0}, "approve"),
        ],
    )
    def test_with_a_model(self, event: dict[str, float], action: str) -> None:
        assert decide(self.LOADED, **event).action == action

    @pytest.mark.parametrize(
        ("event", "action"),
        [
            ({"score": 0.99}, "approve"),
            ({"customer_count_5m": 6}, "challenge"),
            ({"customer_count_30d": 20, "customer_amount_mean_30d": 4.0}, "challenge"),
            ({"customer_count_30d": 20, "customer_amount_mean_30d": 1.0}, "review"),
            ({"customer_count_30d": 3, "customer_amount_mean_30d": 1.0}, "approve"),
            ({"amount": 600.0, "event_time_ms": 1_522_551_600_000}, "challenge"),  # 03:00 UTC
            ({"amount": 2_500.0}, "review"),
            ({"terminal_known_labels_7d": 6, "terminal_known_fraud_rate_7d": 0.5}, "review"),
        ],
    )
    def test_before_the_first_model(self, event: dict[str, float], action: str) -> None:
        assert decide(self.LOADED, model_version="bootstrap", **event).action == action

    @pytest.mark.parametrize("list_name", ["blocked_customers", "blocked_terminals", "blocked_devices"])
    def test_its_empty_lists_are_there_to_be_filled(self, list_name: str) -> None:
        of = {"blocked_customers": "customer_id", "blocked_terminals": "terminal_id", "blocked_devices": "device_id"}
        before, after = DEFAULT_TEXT.split(f"{list_name}:", 1)
        filled = before + f"{list_name}:" + after.replace("values: []", "values: [x9]", 1)
        assert decide(load(filled), **{of[list_name]: "x9"}).action == "decline"

    def test_no_code_of_its_rules_hides_one_of_ours(self) -> None:
        assert not {each.reason[0] for each in self.LOADED.declared.rules} & RESERVED_CODES


def test_a_rule_may_hit_always() -> None:
    assert decide(policy_of(rules=rule("all", "true", "challenge"))).rule_hits == ("all",)
