"""Conditions: the small language in which a policy says when.

::

    condition   = condition "or" condition | condition "and" condition | "not" condition
                | value sign value { sign value }            100 <= amount < 500, both ends in one go
                | value ["not"] "in" list                    country not in ["FR", "DE"], terminal_id in watched
                | value "is" ["not"] "missing"               device_id is missing
                | test "(" value "," text ")"                starts_with, ends_with, contains
                | "true" | "false" | "(" condition ")"
    sign        = "<" | "<=" | ">" | ">=" | "==" | "!="      texts know only == and !=
    value       = number | text | column | "-" value | value ("+" | "-" | "*" | "/") value
                | function "(" value { "," value } ")"       abs floor min max coalesce hour_utc weekday_utc
                | "(" value ")"                              lower upper length
    list        = name of a list | "[" value { "," value } "]"   round brackets do as well
    text        = "in double" | 'or single quotes'
    column      = an event field, score, model_version, feature_status, challenger_gap, missing_features,
                  any feature by its name, or a name that the policy defines

Tightest first: sign, ``* /``, ``+ -``, comparisons, ``not``, ``and``, ``or``. Examples::

    customer_count_5m >= 6 and amount < 10
    amount > 5 * customer_amount_mean_30d and customer_count_30d >= 10
    hour_utc(event_time_ms) in [1, 2, 3] and country not in home_countries
    terminal_known_labels_7d >= 5 and not terminal_known_fraud_rate_7d < 0.5
    coalesce(country, "unknown") == "unknown" or device_id is missing

**What is missing** (a null field, a NaN feature or score, a division by zero, and all that is computed from one) is
never zero and never acts by accident: a comparison or list look-up that meets it is not true, and its denial is not
true either. ``country != "FR"`` and ``not country == "FR"`` agree, and neither hits for an unknown country. Only
``is missing`` and ``coalesce(value, instead)`` speak of it. Stripe Radar came to the same meaning in 2024, after years
with the other one: https://support.stripe.com/questions/changes-to-custom-radar-rule-evaluation

**Numbers** are compared exactly, arithmetic is float64. Features are float32, so a literal compared with a feature is
rounded to float32 first: ``rate > 0.1`` is false for the rate 0.1.

A condition is parsed by our own parser and compiled to closures that hold nothing but numpy functions: there is no
attribute, no call out of the table in ``functions.py``, no loop, no power, and its cost is bounded by its length.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.decisions.check import check
from services.decisions.compilation import Bits, Columns, Leaf, compile_condition
from services.decisions.definitions import expanded, names_in
from services.decisions.syntax import Node, parse
from services.decisions.tokens import ExpressionProblem
from services.decisions.vocabulary import Type, Vocabulary

__all__ = ["Columns", "Condition", "ExpressionError", "ExpressionProblem", "condition"]


class ExpressionError(Exception):
    """A condition that is refused, with all that is wrong in it; the policy's loader adds file and line."""

    def __init__(self, problems: list[ExpressionProblem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition ready for use.

    ``hits(columns)`` takes columns of n rows and returns bool, shape (n,) or what broadcasts to it (``true`` reads no
    column): True where the condition is certainly true. Run it under ``np.errstate(all="ignore")``: overflow and
    division by zero have their declared meaning. ``reads`` names the columns it needs, ``tree`` its parts. ``noting``
    is the same and notes each of ``leaves`` in the columns, which then have to be a dict.
    """

    source: str
    tree: Node
    reads: frozenset[str]
    hits: Bits
    noting: Bits
    leaves: tuple[Leaf, ...]


def condition(source: str, vocabulary: Vocabulary) -> Condition:
    """Parse, check and compile one condition.

    Raises:
        ExpressionError: with every mistake of names and types, or the first of syntax.
    """
    try:
        tree = expanded(parse(source), vocabulary.definitions)
    except ExpressionProblem as problem:
        raise ExpressionError([problem]) from None
    problems, reads = check(tree, vocabulary, source)
    if problems or any(vocabulary.columns.get(name.name) is Type.UNKNOWN for name in names_in(tree)):
        raise ExpressionError(problems)  # without any when a definition that it uses was refused, which has been said
    leaves: list[Leaf] = []
    noting = compile_condition(tree, vocabulary, leaves)
    return Condition(source, tree, reads, compile_condition(tree, vocabulary), noting, tuple(leaves))
