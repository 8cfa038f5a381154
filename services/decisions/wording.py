"""A condition's tree as text again, in the form that a person would write it."""

from __future__ import annotations

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


def text_of(node: Node) -> str:
    """Write ``node`` out; parsed again it is the same tree."""
    match node:
        case Number(value=value):
            return number_text(value)
        case Text(value=value):
            return f"'{value}'" if '"' in value else f'"{value}"'
        case Truth(value=value):
            return "true" if value else "false"
        case Null():
            return "null"
        case Name(name=name):
            return name
        case Items(items=items):
            return f"[{', '.join(map(text_of, items))}]"
        case Call(function=function, arguments=arguments):
            return f"{function}({', '.join(map(text_of, arguments))})"
        case Minus(operand=operand):
            return f"-{_within(operand)}"
        case Arithmetic(sign=sign, left=left, right=right):
            return f"{_within(left)} {sign} {_within(right)}"
        case Comparison(operands=operands, signs=signs):
            rest = [f" {sign} {_within(operand)}" for sign, operand in zip(signs, operands[1:], strict=True)]
            return _within(operands[0]) + "".join(rest)
        case Membership(operand=operand, collection=collection, negated=negated):
            return f"{_within(operand)} {'not in' if negated else 'in'} {text_of(collection)}"
        case Missing(operand=operand, negated=negated):
            return f"{_within(operand)} {'is not missing' if negated else 'is missing'}"
        case Logic(word=word, operands=operands):
            return f" {word} ".join(map(_within, operands))
        case Not(operand=operand):
            return f"not {_within(operand)}"


def number_text(value: float) -> str:
    """A number without a tail of zeros."""
    return str(int(value)) if value == int(value) else repr(value)


def _within(node: Node) -> str:
    """As an operand: in brackets unless it is one word or a call."""
    text = text_of(node)
    return text if isinstance(node, Number | Text | Truth | Name | Call | Items | Null) else f"({text})"
