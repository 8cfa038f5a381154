"""The same rules in two other engines, for ``loadtests.policy_cost``: zen-engine (Rust) and CEL (Google's C++).

Each gets its best form: one compiled list of all conditions, evaluated once an event, so that its variables cross into
it once. What neither has is computed for it and not counted: the hour of the day, and whether somebody is on a list of
a thousand. Columns that a rule reads are handed over as plain Python numbers and texts, without any missing value,
because neither has a meaning for one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import zen
from cel_expr_python import cel

from services.decisions.expression import Columns
from services.decisions.policy import Policy
from services.decisions.syntax import (
    Arithmetic,
    Call,
    Comparison,
    Items,
    Logic,
    Membership,
    Minus,
    Name,
    Node,
    Not,
    Number,
    Text,
)

EVENTS = 2_000
Engine = Callable[[dict[str, Any]], list[bool]]


def translated(node: Node, words: dict[str, str]) -> str:
    """A condition of the benchmark in another language; both write their operators alike but for the words."""
    match node:
        case Number(value=value):
            return repr(float(value))
        case Text(value=value):
            return f'"{value}"'
        case Name(name=name):
            return name
        case Minus(operand=operand):
            return f"-({translated(operand, words)})"
        case Call(function="hour_utc"):
            return "hour"
        case Arithmetic(sign=sign, left=left, right=right):
            return f"({translated(left, words)} {sign} {translated(right, words)})"
        case Comparison(operands=(left, right), signs=(sign,)):
            return f"({translated(left, words)} {sign} {translated(right, words)})"
        case Membership(collection=Name(), negated=False):
            return "is_watched"
        case Membership(operand=operand, collection=Items(items=items), negated=False):
            return f"({translated(operand, words)} in [{', '.join(translated(item, words) for item in items)}])"
        case Logic(word=word, operands=operands):
            return "(" + f" {words[word]} ".join(translated(operand, words) for operand in operands) + ")"
        case Not(operand=operand):
            return f"({words['not']}({translated(operand, words)}))"
    raise AssertionError(f"not in the benchmark's rules: {node}")


def zen_engine(trees: Sequence[Node]) -> Engine:
    """zen-engine's compiled expression."""
    words = {"and": "and", "or": "or", "not": "not "}
    compiled = zen.compile_expression("[" + ", ".join(translated(tree, words) for tree in trees) + "]")
    return lambda event: list(compiled.evaluate(event))


def cel_engine(trees: Sequence[Node], event: dict[str, Any]) -> Engine:
    """Google's CEL, with its variables declared."""
    types = {float: cel.Type.DOUBLE, str: cel.Type.STRING, bool: cel.Type.BOOL}
    environment = cel.NewEnv(variables={name: types[type(value)] for name, value in event.items()})
    words = {"and": "&&", "or": "||", "not": "!"}
    compiled = environment.compile("[" + ", ".join(translated(tree, words) for tree in trees) + "]")
    return lambda one: [each.value() if hasattr(each, "value") else each for each in compiled.eval(data=one).value()]


def events_of(policy: Policy, columns: Columns) -> list[dict[str, Any]]:
    """Events as another engine takes them: a dict of plain values each, only what the rules read."""
    reads = sorted(set().union(*(rule.condition.reads for rule in policy.rules)) - {"event_time_ms", "customer_id"})
    watched = policy.rules[4].condition.tree  # every fifth rule looks somebody up
    assert "watched" in str(watched)
    plain: dict[str, list[Any]] = {}
    for name in reads:
        column = columns[name][:EVENTS]
        if column.dtype == object:
            plain[name] = [value or "" for value in column.tolist()]
        else:
            plain[name] = np.nan_to_num(column.astype(np.float64)).tolist()
    hours = (columns["event_time_ms"][:EVENTS] // 3_600_000 % 24).astype(float).tolist()
    listed = columns["is_watched"][:EVENTS].tolist()
    return [
        {name: values[row] for name, values in plain.items()} | {"hour": hours[row], "is_watched": bool(listed[row])}
        for row in range(EVENTS)
    ]


def cost_us(engine: Engine, events: Sequence[dict[str, Any]]) -> float:
    """Microseconds an event: the best of three runs."""
    best = float("inf")
    for _ in range(3):
        began_s = time.process_time()
        for event in events:
            engine(event)
        best = min(best, time.process_time() - began_s)
    return best / len(events) * 1e6


def beside(policy: Policy, columns: Columns) -> dict[str, tuple[float, float]]:
    """For each engine: microseconds an event, and the share of conditions on which it agrees with ours."""
    rules = [rule for rule in policy.rules if rule.name.startswith("rule_")]
    events = events_of(policy, columns)
    filled = {
        name: np.array([event[name] for event in events], columns[name].dtype)
        for name in events[0]
        if name in columns and name != "is_watched"
    }
    filled |= {name: columns[name][:EVENTS] for name in ("event_time_ms", "customer_id")}
    with np.errstate(all="ignore"):
        ours = np.array([np.broadcast_to(rule.condition.hits(filled), EVENTS) for rule in rules]).T
    trees = [rule.condition.tree for rule in rules]
    found = {}
    for name, engine in (("zen-engine", zen_engine(trees)), ("CEL (C++)", cel_engine(trees, events[0]))):
        theirs = np.array([engine(event) for event in events], bool)
        found[name] = (cost_us(engine, events), float((theirs == ours).mean()))
    return found
