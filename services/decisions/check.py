"""Check the names and types of a parsed condition and report everything that is wrong, each with a remedy."""

from __future__ import annotations

from services.decisions.functions import FUNCTIONS
from services.decisions.mistakes import shown, suggest
from services.decisions.syntax import (
    Arithmetic,
    Call,
    Comparison,
    Items,
    Logic,
    Membership,
    Minus,
    Missing,
    Name,
    Node,
    Not,
    Null,
    Number,
    Text,
    Truth,
)
from services.decisions.tokens import ExpressionProblem
from services.decisions.vocabulary import ALWAYS_PRESENT, FEATURE_STATUSES, Type, Vocabulary

ITEMS_MAX = 256  # in a list written in place; a longer one deserves a name under `lists`


def check(node: Node, vocabulary: Vocabulary, source: str) -> tuple[list[ExpressionProblem], frozenset[str]]:
    """Check a whole condition; return what is wrong, and the columns that it reads."""
    checker = _Checker(vocabulary, source)
    found = checker.type_of(node)
    if found in (Type.NUMBER, Type.TEXT):
        checker.report(
            node, f"condition {shown(source)} is {found.value}, not true or false; compare it with something"
        )
    elif not checker.reads and not checker.problems and not isinstance(node, Truth):
        checker.report(node, f"condition {checker.source} reads nothing of the event; write true if always is meant")
    return checker.problems, frozenset(checker.reads)


def mistakes_in(node: Node, vocabulary: Vocabulary, source: str) -> list[ExpressionProblem]:
    """Check an expression of any type, as a definition is; return what is wrong."""
    checker = _Checker(vocabulary, source)
    checker.type_of(node)
    if not checker.reads and not checker.problems:
        checker.report(node, f"{checker.source} reads nothing of the event; write the value where it is used")
    return checker.problems


class _Checker:
    def __init__(self, vocabulary: Vocabulary, source: str) -> None:
        self.vocabulary = vocabulary
        self.source = shown(source)  # as it stands in every message
        self.problems: list[ExpressionProblem] = []
        self.reads: set[str] = set()

    def report(self, node: Node, message: str) -> Type:
        self.problems.append(ExpressionProblem(node.at, message))
        return Type.UNKNOWN

    def type_of(self, node: Node) -> Type:
        match node:
            case Number():
                return Type.NUMBER
            case Text():
                return Type.TEXT
            case Truth():
                return Type.TRUTH
            case Null():
                return self.report(node, f"null in {self.source} compares with nothing; write `is missing`")
            case Name(name=name):
                return self.column(node, name)
            case Items():
                return self.report(node, f"a list stands alone in {self.source}; write `column in [...]`")
            case Call():
                return self.call(node)
            case Minus(operand=operand):
                self.expect(operand, Type.NUMBER, "-")
                return Type.NUMBER
            case Arithmetic(sign=sign, left=left, right=right):
                self.expect(left, Type.NUMBER, sign)
                self.expect(right, Type.NUMBER, sign)
                if sign == "/" and isinstance(right, Number) and right.value == 0:
                    self.report(right, f"division by 0 in {self.source} is always missing; divide by something")
                return Type.NUMBER
            case Comparison():
                return self.comparison(node)
            case Membership():
                return self.membership(node)
            case Missing():
                return self.missing(node)
            case Logic(word=word, operands=operands):
                for operand in operands:
                    self.expect(operand, Type.TRUTH, word)
                return Type.TRUTH
            case Not(operand=operand):
                self.expect(operand, Type.TRUTH, "not")
                return Type.TRUTH

    def column(self, node: Node, name: str) -> Type:
        known = self.vocabulary.columns
        if name in known:
            self.reads.add(name)
            return known[name]
        if name in self.vocabulary.lists:
            return self.report(node, f"{shown(name)} is a list; write `column in {name}`")
        if name in FUNCTIONS:
            return self.report(node, f"{shown(name)} is a function; write {FUNCTIONS[name].example}")
        return self.report(
            node, f"unknown name {shown(name)} in {self.source}{suggest(name, [*known, *self.vocabulary.definitions])}"
        )

    def expect(self, node: Node, wanted: Type, around: str) -> None:
        found = self.type_of(node)
        if found is not wanted and found is not Type.UNKNOWN:
            remedy = {
                Type.TRUTH: "write a comparison there",
                Type.NUMBER: "use a number there",
                Type.TEXT: 'use a text there, in quotes: "..."',
            }[wanted]
            message = f"{shown(around)} needs {wanted.value} but is given {found.value} in {self.source}; {remedy}"
            self.report(node, message)

    def call(self, node: Call) -> Type:
        function = FUNCTIONS.get(node.function)
        if function is None:
            for argument in node.arguments:
                self.type_of(argument)
            return self.report(
                node,
                f"unknown function {shown(node.function)} in {self.source}{suggest(node.function, FUNCTIONS)}",
            )
        if not function.arguments_min <= len(node.arguments) <= function.arguments_max:
            return self.report(
                node, f"{node.function}() is given {len(node.arguments)} arguments; write it as in {function.example}"
            )
        if function.yields is Type.UNKNOWN:
            return self.alike(node)
        for index, argument in enumerate(node.arguments):
            self.expect(argument, function.takes[min(index, len(function.takes) - 1)], node.function)
        if function.yields is Type.TRUTH and not isinstance(node.arguments[1], Text):
            self.report(
                node.arguments[1],
                f"{node.function}() looks only for a text in quotes; write it as in {function.example}",
            )
        return function.yields

    def alike(self, node: Call) -> Type:
        """Check a function whose arguments must all be numbers or all be texts."""
        types = {self.type_of(argument) for argument in node.arguments} - {Type.UNKNOWN}
        if Type.TRUTH in types or len(types) > 1:
            return self.report(
                node, f"{node.function}() in {self.source} mixes types; give it only numbers, or only texts"
            )
        return types.pop() if types else Type.UNKNOWN

    def comparison(self, node: Comparison) -> Type:
        types = [self.type_of(operand) for operand in node.operands]
        for index, sign in enumerate(node.signs):
            left, right = types[index], types[index + 1]
            if Type.UNKNOWN in (left, right):
                continue
            at = node.operands[index + 1]
            if Type.TRUTH in (left, right):
                self.report(at, f"true or false is compared in {self.source}; write the condition itself, or not")
            elif left is not right:
                self.report(at, f"{left.value} is compared with {right.value} in {self.source}; compare like with like")
            elif left is Type.TEXT and sign not in ("==", "!="):
                self.report(at, f"texts have no order for {shown(sign)} in {self.source}; use ==, != or in")
            else:
                self.sensible(node.operands[index], node.operands[index + 1])
                self.sensible(node.operands[index + 1], node.operands[index])
        return Type.TRUTH

    def sensible(self, column: Node, literal: Node) -> None:
        """Refuse a comparison that no event can ever decide."""
        match column, literal:
            case Name(name="score"), Number(value=value) if value > 1:
                self.report(
                    literal,
                    f"score is compared with {value:g}; a probability ends at 1; write {value / 100:g}?",
                )
            case Name(name="feature_status"), Text(value=value) if value not in FEATURE_STATUSES:
                self.report(literal, f"feature_status is never {shown(value)}{suggest(value, FEATURE_STATUSES)}")

    def membership(self, node: Membership) -> Type:
        found = self.type_of(node.operand)
        if found is Type.TRUTH:
            self.report(node, f"true or false is looked up in a list in {self.source}; put a column before `in`")
        match node.collection:
            case Items(items=items):
                self.items(node, found, items)
            case Name(name=name) if name in self.vocabulary.lists:
                self.named_list(node, found, name)
            case Name(name=name) if self.vocabulary.columns.get(name) is Type.UNKNOWN:
                pass  # a definition that was refused, which has been said
            case Name(name=name) if name in self.vocabulary.columns:
                self.report(node.collection, f"{shown(name)} after `in` is a column, not a list; compare it with ==")
            case Name(name=name):
                known = self.vocabulary.lists
                remedy = suggest(name, known) if known else "; declare it under lists"
                self.report(node.collection, f"unknown list {shown(name)} in {self.source}{remedy}")
            case other:
                self.report(other, f"`in` needs a list in {self.source}; write [..., ...] or the name of a list")
        return Type.TRUTH

    def items(self, node: Membership, found: Type, items: tuple[Node, ...]) -> None:
        if not 1 <= len(items) <= ITEMS_MAX:
            remedy = "put at least one value in it" if not items else "declare it under lists"
            self.report(node.collection, f"list of {len(items)} values in {self.source}; {remedy}")
        for item in items:
            value = item.operand if isinstance(item, Minus) else item
            if isinstance(value, Name) and value.name in self.vocabulary.lists:
                self.report(item, f"list {shown(value.name)} stands in brackets; write `in {value.name}` without them")
            elif not isinstance(value, Number | Text) or (value is not item and isinstance(value, Text)):
                self.report(item, f"a list in {self.source} may hold only numbers or texts; quote a text")
            elif found in (Type.NUMBER, Type.TEXT) and self.type_of(value) is not found:
                self.report(item, f"{found.value} is looked up among other types in {self.source}; use like values")
            else:
                self.sensible(node.operand, item)

    def named_list(self, node: Membership, found: Type, name: str) -> None:
        field = self.vocabulary.lists[name].field
        if found is Type.NUMBER:
            self.report(node, f"list {shown(name)} holds texts but a number is looked up; compare numbers with [1, 2]")
        elif field and isinstance(node.operand, Name) and node.operand.name != field:
            self.report(
                node,
                f"list {shown(name)} holds values of {field}, not of {node.operand.name}; write `{field} in {name}`",
            )

    def missing(self, node: Missing) -> Type:
        found = self.type_of(node.operand)
        if found is Type.TRUTH:
            self.report(node, f"a condition is never missing in {self.source}; ask it of a column")
        match node.operand:
            case Name(name=name) if name in ALWAYS_PRESENT:
                self.report(node, f"{shown(name)} is never missing; remove the test")
            case Number() | Text():
                self.report(node, f"a value written in {self.source} is never missing; ask it of a column")
        return Type.TRUTH
