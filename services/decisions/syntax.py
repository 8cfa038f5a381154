"""The shape of a condition: a tree of frozen nodes, built by a small operator-precedence (Pratt) parser.

The parser knows nothing of names and types (``check.py`` does) and evaluates nothing (``compilation.py`` does).
Method: V. Pratt, "Top down operator precedence", POPL 1973.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from services.decisions.mistakes import shown
from services.decisions.tokens import ExpressionProblem, Kind, Token, tokenize

DEPTH_MAX = 32  # levels of nesting; keeps every recursion over the tree far below Python's own limit of 1,000 frames

ComparisonSign: TypeAlias = Literal["<", "<=", ">", ">=", "==", "!="]
ArithmeticSign: TypeAlias = Literal["+", "-", "*", "/"]


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written."""

    at: int
    value: float


@dataclass(frozen=True, slots=True)
class Text:
    """A text in quotes."""

    at: int
    value: str


@dataclass(frozen=True, slots=True)
class Truth:
    """``true`` or ``false``."""

    at: int
    value: bool


@dataclass(frozen=True, slots=True)
class Null:
    """``null``, which is parsed only to be refused with its remedy (``is missing``)."""

    at: int


@dataclass(frozen=True, slots=True)
class Name:
    """A column, or a named list after ``in``."""

    at: int
    name: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list written in place, after ``in``."""

    at: int
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function of the language applied to arguments."""

    at: int
    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Minus:
    """A number with its sign turned."""

    at: int
    operand: Node


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Two numbers joined by ``+ - * /``."""

    at: int
    sign: ArithmeticSign
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Comparison:
    """``a < b <= c``: one sign fewer than operands; true when every neighbouring pair compares."""

    at: int
    operands: tuple[Node, ...]
    signs: tuple[ComparisonSign, ...]


@dataclass(frozen=True, slots=True)
class Membership:
    """``a in list`` or ``a not in list``."""

    at: int
    operand: Node
    collection: Node
    negated: bool


@dataclass(frozen=True, slots=True)
class Missing:
    """``a is missing`` or ``a is not missing``."""

    at: int
    operand: Node
    negated: bool


@dataclass(frozen=True, slots=True)
class Logic:
    """Two or more truths joined by one of ``and``, ``or``."""

    at: int
    word: Literal["and", "or"]
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """A truth denied."""

    at: int
    operand: Node


Node: TypeAlias = (
    Number
    | Text
    | Truth
    | Null
    | Name
    | Items
    | Call
    | Minus
    | Arithmetic
    | Comparison
    | Membership
    | Missing
    | Logic
    | Not
)

# How tightly each operator binds what stands to its left; `not` and the sign bind only to their right.
OR, AND, NOT, COMPARE, SUM, PRODUCT, SIGN = range(1, 8)
POWERS: dict[str, int] = {
    "or": OR,
    "and": AND,
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!=", "in", "not", "is"), COMPARE),
    "+": SUM,
    "-": SUM,
    "*": PRODUCT,
    "/": PRODUCT,
}
COMPARISON_SIGNS: dict[str, ComparisonSign] = {"<": "<", "<=": "<=", ">": ">", ">=": ">=", "==": "==", "!=": "!="}
ARITHMETIC_SIGNS: dict[str, ArithmeticSign] = {"+": "+", "-": "-", "*": "*", "/": "/"}


def parse(source: str) -> Node:
    """Parse one condition.

    Raises:
        ExpressionProblem: at the first place where the text is not of the language, or is nested too deeply.
    """
    parser = _Parser(source)
    node = parser.expression(0, 0)
    if parser.token.kind is not Kind.END:
        raise ExpressionProblem(
            parser.token.at, f"unexpected {shown(parser.token.source)} in {shown(source)}; join conditions with and, or"
        )
    return node


class _Parser:
    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens = tokenize(source)
        self.position = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.position]

    def expression(self, power: int, depth: int) -> Node:
        """Parse as long as operators bind tighter than ``power``; each operator applied is one level of the tree."""
        left = self.operand(self.limited(depth))
        while POWERS.get(self.operator(), 0) > power:
            depth = self.limited(depth)
            left = self.applied(left, depth)
        return left

    def operator(self) -> str:
        return self.token.source if self.token.kind is Kind.SYMBOL else ""

    def limited(self, depth: int) -> int:
        if depth >= DEPTH_MAX:
            raise ExpressionProblem(
                self.token.at, f"condition {shown(self.source)} nests deeper than {DEPTH_MAX} levels; split the rule"
            )
        return depth + 1

    def take(self) -> Token:
        token = self.token
        self.position += token.kind is not Kind.END
        return token

    def took(self, word: str) -> bool:
        if self.operator() != word:
            return False
        self.position += 1
        return True

    def expect(self, word: str, remedy: str) -> None:
        if not self.took(word):
            found = shown(self.token.source) if self.token.source else "the end"
            raise ExpressionProblem(self.token.at, f"expected {word} before {found} in {shown(self.source)}; {remedy}")

    def operand(self, depth: int) -> Node:
        """Parse what may stand first: a value, a name, a call, brackets, ``not`` or a sign."""
        token = self.take()
        match token.kind, token.source:
            case Kind.NUMBER, digits:
                return Number(token.at, float(digits))
            case Kind.TEXT, quoted:
                return Text(token.at, quoted[1:-1])
            case Kind.NAME, name:
                if self.took("("):
                    return Call(token.at, name, self.items(")", depth))
                return Name(token.at, name)
            case Kind.SYMBOL, "true" | "false":
                return Truth(token.at, token.source == "true")
            case Kind.SYMBOL, "null":
                return Null(token.at)
            case Kind.SYMBOL, "not":
                return Not(token.at, self.expression(NOT, depth))
            case Kind.SYMBOL, "-":
                return Minus(token.at, self.expression(SIGN, depth))
            case Kind.SYMBOL, "(":
                inner = self.expression(0, depth)
                self.expect(")", "close the bracket")
                return inner
            case Kind.SYMBOL, "[":
                return Items(token.at, self.items("]", depth))
            case Kind.END, _:
                remedy = "write one, or `true` for always" if not self.source.strip() else "complete or remove it"
                raise ExpressionProblem(
                    token.at, f"condition {shown(self.source)} ends where a value must come; {remedy}"
                )
        raise ExpressionProblem(
            token.at,
            f"{shown(token.source)} stands where a value must come in {shown(self.source)}; put a value before it",
        )

    def items(self, closing: str, depth: int) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self.took(closing):
            if items:
                self.expect(",", f"separate with commas and close with {closing}")
            items.append(self.expression(0, depth))
        return tuple(items)

    def applied(self, left: Node, depth: int) -> Node:
        """Apply the operator at hand to what stands on its left."""
        token = self.take()
        if token.source in ("and", "or"):
            return self.logic("and" if token.source == "and" else "or", left, token, depth)
        if token.source in COMPARISON_SIGNS:
            return self.comparison(left, token, depth)
        if token.source == "is":
            negated = self.took("not")
            self.expect("missing", "write `is missing` or `is not missing`, and == to compare values")
            return Missing(token.at, left, negated)
        if token.source in ("in", "not"):
            if token.source == "not":
                self.expect("in", "write `not` in front of the condition, or `not in`")
            return Membership(token.at, left, self.collection(depth), negated=token.source == "not")
        right = self.expression(POWERS[token.source], depth)
        return Arithmetic(token.at, ARITHMETIC_SIGNS[token.source], left, right)

    def logic(self, word: Literal["and", "or"], left: Node, token: Token, depth: int) -> Node:
        operands = [left, self.expression(POWERS[word], depth)]
        while self.took(word):
            operands.append(self.expression(POWERS[word], depth))
        return Logic(token.at, word, tuple(operands))

    def comparison(self, left: Node, token: Token, depth: int) -> Node:
        operands = [left, self.expression(COMPARE, depth)]
        signs = [COMPARISON_SIGNS[token.source]]
        while self.operator() in COMPARISON_SIGNS:
            signs.append(COMPARISON_SIGNS[self.take().source])
            operands.append(self.expression(COMPARE, depth))
        return Comparison(token.at, tuple(operands), tuple(signs))

    def collection(self, depth: int) -> Node:
        """Parse what follows ``in``: a list in square or round brackets, or the name of a declared list."""
        token = self.token
        if self.took("("):
            return Items(token.at, self.items(")", depth))
        return self.expression(COMPARE, depth)
