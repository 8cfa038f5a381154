"""Compile a checked condition to closures over numpy columns: once per policy, for one row or a million alike.

Missing values. Logic is Kleene's three-valued logic, of which only "certainly true" matters in the end, because a rule
hits only then. So every condition is compiled twice over, into *certainly true* and (under a ``not``) *certainly
false*: the negation is carried down to the comparisons, where both are false for a missing value. Arrays stay plain
booleans, and ``not (rate > 0.1)`` costs what ``rate <= 0.1`` costs and means the same.

Why, and why not. The parts without and, or and not in them are *leaves*. Compiled with a list to note them in, a
condition leaves each leaf's array behind in the columns that it was given, under the leaf itself: what was computed to
decide is kept to explain. The same leaf in two rules of a policy is one leaf, so nothing is computed twice either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.decisions.definitions import names_in, parts_of
from services.decisions.functions import FUNCTIONS, texts_missing
from services.decisions.syntax import (
    Arithmetic,
    Call,
    Comparison,
    ComparisonSign,
    Items,
    Logic,
    Membership,
    Minus,
    Missing,
    Name,
    Node,
    Not,
    Number,
    Text,
    Truth,
)
from services.decisions.vocabulary import ALWAYS_PRESENT, Type, Vocabulary
from services.decisions.wording import text_of

Columns: TypeAlias = Mapping[Any, NDArray[Any]]
Values: TypeAlias = Callable[[Columns], Any]
Bits: TypeAlias = Callable[[Columns], Any]

OPPOSITE: dict[ComparisonSign, ComparisonSign] = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}
UFUNCS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal}


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """One part of a condition that is true, false or not known by itself.

    ``noted`` says what the array noted under this leaf means: where it certainly holds (True) or certainly does not
    (False). ``texts`` and ``numbers`` name the columns without which it is not known; ``alone`` computes both truths
    of it from columns, ``reads``, for what can be missing in other ways (a division by zero, coalesce).
    """

    text: str
    noted: bool
    texts: tuple[str, ...]
    numbers: tuple[str, ...]
    reads: tuple[str, ...]
    alone: tuple[Bits, Bits] | None


def compile_condition(node: Node, vocabulary: Vocabulary, leaves: list[Leaf] | None = None) -> Bits:
    """Compile a condition that ``check`` found right.

    The closure takes columns of n rows and returns bool of shape (n,), or what broadcasts to it. With ``leaves`` the
    leaves are added there, in the order in which they are written, and the closure notes each in its columns, which
    then have to be a dict.
    """
    return _Compiler(vocabulary, leaves).truth(node, True)


class _Compiler:
    def __init__(self, vocabulary: Vocabulary, leaves: list[Leaf] | None = None) -> None:
        self.vocabulary = vocabulary
        self.leaves = leaves

    def truth(self, node: Node, wanted: bool) -> Bits:
        """Compile to: where the node is certainly true (``wanted``), or certainly false (not ``wanted``)."""
        match node:
            case Truth(value=value):
                constant = np.bool_(value is wanted)
                return lambda _: constant
            case Not(operand=operand):
                return self.truth(operand, not wanted)
            case Logic(word=word, operands=operands):
                return _joined([self.truth(operand, wanted) for operand in operands], every=(word == "and") is wanted)
            case Comparison(at=at, operands=operands, signs=signs):
                pairs = [
                    self.leaf(Comparison(at, operands[index : index + 2], (sign,)), wanted)
                    for index, sign in enumerate(signs)
                ]
                return _joined(pairs, every=wanted)
        return self.leaf(node, wanted)

    def leaf(self, node: Node, wanted: bool) -> Bits:
        """Compile a part without and, or, not; note it where that is asked for."""
        bits = self.bare(node, wanted)
        if self.leaves is None:
            return bits
        text = text_of(node)
        leaf = self.vocabulary.leaves.get((text, wanted))
        if leaf is None:
            leaf = self.vocabulary.leaves[text, wanted] = self.described(node, text, wanted)
        self.leaves.append(leaf)

        def noted(columns: Any) -> Any:
            found = columns.get(leaf)
            if found is None:
                found = columns[leaf] = bits(columns)
            return found

        return noted

    def described(self, node: Node, text: str, wanted: bool) -> Leaf:
        """What is to be known of a leaf, to explain it."""
        reads = sorted({name.name for name in names_in(node)} - self.vocabulary.lists.keys())
        names = [name for name in reads if name not in ALWAYS_PRESENT and not isinstance(node, Missing)]
        texts = tuple(name for name in names if self.vocabulary.columns[name] is Type.TEXT)
        numbers = tuple(name for name in names if self.vocabulary.columns[name] is not Type.TEXT)
        alone = None
        if not isinstance(node, Missing) and may_be_missing_otherwise(node):
            bare = _Compiler(self.vocabulary)
            alone = (bare.bare(node, True), bare.bare(node, False))
        return Leaf(text, wanted, texts, numbers, tuple(reads), alone)

    def bare(self, node: Node, wanted: bool) -> Bits:
        match node:
            case Comparison(operands=(left, right), signs=(sign,)):
                return self.compared(left, sign if wanted else OPPOSITE[sign], right)
            case Membership(operand=operand, collection=collection, negated=negated):
                return self.member(operand, collection, wanted is not negated)
            case Missing(operand=operand, negated=negated):
                missing = self.missing(operand)
                return missing if wanted is not negated else lambda columns: ~missing(columns)
            case Call(arguments=(operand, Text(value=literal)), function=function):
                return self.tested(operand, FUNCTIONS[function].apply, literal, wanted)
        raise AssertionError(f"not a truth: {node}")  # check() refuses it before

    def type_of(self, node: Node) -> Type:
        match node:
            case Name(name=name):
                return self.vocabulary.columns[name]
            case Text():
                return Type.TEXT
            case Call(function="coalesce", arguments=arguments):
                return self.type_of(arguments[0])
            case Call(function=function):
                return FUNCTIONS[function].yields
        return Type.NUMBER

    def is_float32(self, node: Node) -> bool:
        """Whether a number is always a float32 or a literal, with at least one float32: a feature, as it is."""
        match node:
            case Name(name=name):
                return name in self.vocabulary.features
            case Minus(operand=operand):
                return self.is_float32(operand)
            case Call(function=function, arguments=arguments) if FUNCTIONS[function].keeps:
                plain = [argument for argument in arguments if not _is_literal(argument)]
                return bool(plain) and all(self.is_float32(argument) for argument in plain)
        return False

    def value(self, node: Node, rounded: bool) -> Values:
        """Compile a number or text; ``rounded``: literals become float32 because they meet a float32."""
        match node:
            case Number(value=number):
                constant = np.float32(number) if rounded else np.float64(number)
                return lambda _: constant
            case Text(value=text):
                one_row = np.array([text], dtype=object)  # stands beside columns of any length
                return lambda _: one_row
            case Name(name=name):
                return lambda columns: columns[name]
            case Minus(operand=operand):
                inner = self.value(operand, rounded)
                return lambda columns: np.negative(inner(columns))
            case Arithmetic(sign=sign, left=left, right=right):
                return _arithmetic(sign, self.wide(left), self.wide(right))
            case Call(function=function, arguments=arguments):
                apply, keeps = FUNCTIONS[function].apply, FUNCTIONS[function].keeps
                inner_rounded = self.is_float32(node) if keeps else False
                values = [self.value(argument, inner_rounded) for argument in arguments]
                return self.shared(node, inner_rounded, lambda columns: apply(*[each(columns) for each in values]))
        raise AssertionError(f"not a value: {node}")  # check() refuses it before

    def shared(self, node: Call, rounded: bool, values: Values) -> Values:
        """A call's values, which several conditions of a policy may ask for, computed once for the same columns."""
        if self.leaves is None:
            return values
        key = (text_of(node), "rounded" if rounded else "")

        def once(columns: Any) -> Any:
            found = columns.get(key)
            if found is None:
                found = columns[key] = values(columns)
            return found

        return once

    def wide(self, node: Node) -> Values:
        """Compile a number as float64, in which all arithmetic is done."""
        inner = self.value(node, rounded=False)
        if isinstance(node, Number | Arithmetic):
            return inner
        return lambda columns: np.asarray(inner(columns), np.float64)

    def compared(self, left: Node, sign: ComparisonSign, right: Node) -> Bits:
        if self.type_of(left) is Type.TEXT:
            return self.texts_compared(left, right, equal=sign == "==")
        rounded = self.is_float32(left) or self.is_float32(right)
        first, second = self.value(left, rounded), self.value(right, rounded)
        if sign == "!=":  # numpy holds NaN != x for true; a missing value is not known to differ

            def differ(columns: Columns) -> Any:
                a, b = first(columns), second(columns)
                return np.less(a, b) | np.greater(a, b)

            return differ
        ufunc = UFUNCS[sign]
        if isinstance(left, Name) and isinstance(right, Number):  # by far the most frequent form, one call less
            name, constant = left.name, second({})
            return lambda columns: ufunc(columns[name], constant)
        return lambda columns: ufunc(first(columns), second(columns))

    def texts_compared(self, left: Node, right: Node, equal: bool) -> Bits:
        first, second = self.value(left, False), self.value(right, False)
        present = self.present([left, right])
        compare = np.equal if equal else np.not_equal
        if equal and isinstance(left, Text) != isinstance(right, Text):  # null equals no literal: no mask needed
            return lambda columns: np.asarray(compare(first(columns), second(columns)), bool)
        return lambda columns: np.asarray(compare(first(columns), second(columns)), bool) & present(columns)

    def present(self, nodes: Sequence[Node]) -> Bits:
        missing = [self.missing(node) for node in nodes if not isinstance(node, Text | Number)]
        return lambda columns: ~reduce(np.logical_or, [each(columns) for each in missing], np.False_)

    def missing(self, node: Node) -> Bits:
        inner = self.value(node, False)
        if self.type_of(node) is Type.TEXT:
            return lambda columns: texts_missing(inner(columns))
        return lambda columns: np.isnan(inner(columns))

    def member(self, operand: Node, collection: Node, wanted: bool) -> Bits:
        if self.type_of(operand) is Type.NUMBER:
            assert isinstance(collection, Items)
            pairs = [self.compared(operand, "==" if wanted else "!=", item) for item in collection.items]
            return _joined(pairs, every=not wanted)
        if isinstance(collection, Name):
            values = self.vocabulary.lists[collection.name].values
        else:
            assert isinstance(collection, Items)
            values = frozenset(item.value for item in collection.items if isinstance(item, Text))

        def holds(texts: NDArray[Any], _: str) -> NDArray[np.bool_]:
            return np.fromiter(map(values.__contains__, texts.tolist()), bool, texts.size)

        return self.tested(operand, holds, "", wanted)

    def tested(self, operand: Node, holds: Callable[..., Any], literal: str, wanted: bool) -> Bits:
        texts = self.value(operand, False)
        if wanted:
            return lambda columns: holds(texts(columns), literal)

        def certainly_not(columns: Columns) -> Any:
            column = texts(columns)
            return ~(holds(column, literal) | texts_missing(column))

        return certainly_not


def may_be_missing_otherwise(node: Node) -> bool:
    """Whether a part can be missing where all its columns are there, or the other way round."""
    # A product of four numbers below 1e39 (float32's largest) is far from infinity; of more, infinity less infinity.
    return _divides(node) or _products(node) > 3


def _divides(node: Node) -> bool:
    match node:
        case Arithmetic(sign="/") | Call(function="coalesce"):
            return True
    return any(map(_divides, parts_of(node)))


def _products(node: Node) -> int:
    own = isinstance(node, Arithmetic) and node.sign == "*"
    return own + sum(map(_products, parts_of(node)))


def _is_literal(node: Node) -> bool:
    return isinstance(node, Number) or (isinstance(node, Minus) and _is_literal(node.operand))


def _joined(parts: Sequence[Bits], every: bool) -> Bits:
    """Join truths: ``every`` of them, or any."""
    join = np.logical_and if every else np.logical_or
    match parts:
        case [only]:
            return only
        case [first, second]:
            return lambda columns: join(first(columns), second(columns))
    return lambda columns: reduce(join, [part(columns) for part in parts])


def _arithmetic(sign: str, left: Values, right: Values) -> Values:
    match sign:
        case "+":
            return lambda columns: left(columns) + right(columns)
        case "-":
            return lambda columns: left(columns) - right(columns)
        case "*":
            return lambda columns: left(columns) * right(columns)

    def divided(columns: Columns) -> Any:
        divisor = right(columns)
        return left(columns) / np.where(divisor == 0, np.nan, divisor)

    return divided
