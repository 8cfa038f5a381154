"""Names that a policy gives to expressions, put in place of their names before anything is checked. Pure.

A definition may use others, never itself; what a condition grows to is bounded, so that ten short lines cannot double
ten times over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from services.decisions.mistakes import shown
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
)
from services.decisions.tokens import ExpressionProblem

NODES_MAX = 2_000  # of one condition with everything put in; 2,000 characters can't write as many
LEVELS_MAX = 96  # the same for nesting: recursion over the tree stays far below Python's limit of 1,000 frames


def names_in(node: Node) -> Iterator[Name]:
    """Every name that ``node`` uses, lists too."""
    if isinstance(node, Name):
        yield node
    for part in parts_of(node):
        yield from names_in(part)


def circle(name: str, uses: Mapping[str, frozenset[str]]) -> list[str]:
    """How ``name`` comes back to itself: the names on the way, ending with its own; empty when it does not."""
    trail: list[tuple[str, list[str]]] = [(name, [name])]
    seen: set[str] = set()
    while trail:
        at, way = trail.pop()
        for used in sorted(uses.get(at, frozenset())):
            if used == name:
                return [*way, name]
            if used not in seen:
                seen.add(used)
                trail.append((used, [*way, used]))
    return []


def expanded(node: Node, definitions: Mapping[str, Node]) -> Node:
    """``node`` with every defined name replaced by what it stands for; places are those of the use.

    Raises:
        ExpressionProblem: when that grows beyond ``NODES_MAX`` nodes or ``LEVELS_MAX`` levels.
    """
    used = [definitions[name.name] for name in names_in(node) if name.name in definitions]
    if not used:
        return node
    size = _size(node) + sum(_size(tree) - 1 for tree in used)
    if size > NODES_MAX:
        raise ExpressionProblem(
            node.at, f"with its definitions put in, the condition has {size} parts; {NODES_MAX} are allowed, split it"
        )
    levels = _levels(node) + max(map(_levels, used))
    if levels > LEVELS_MAX:
        raise ExpressionProblem(
            node.at, f"with its definitions put in, the condition has {levels} levels; {LEVELS_MAX} are allowed"
        )
    return _replaced(node, definitions)


def _replaced(node: Node, definitions: Mapping[str, Node]) -> Node:
    if isinstance(node, Name) and node.name in definitions:
        return _moved(definitions[node.name], node.at)
    match node:
        case Items(items=items):
            return replace(node, items=tuple(_replaced(each, definitions) for each in items))
        case Call(arguments=arguments):
            return replace(node, arguments=tuple(_replaced(each, definitions) for each in arguments))
        case Comparison(operands=operands) | Logic(operands=operands):
            return replace(node, operands=tuple(_replaced(each, definitions) for each in operands))
        case Arithmetic(left=left, right=right):
            return replace(node, left=_replaced(left, definitions), right=_replaced(right, definitions))
        case Minus(operand=operand) | Missing(operand=operand) | Not(operand=operand) | Membership(operand=operand):
            return replace(node, operand=_replaced(operand, definitions))  # a list's name stays a list's name
    return node


def _moved(node: Node, at: int) -> Node:
    """The same tree as if it had been written at ``at``, where its user can see it."""
    match node:
        case Items(items=items):
            return replace(node, at=at, items=tuple(_moved(each, at) for each in items))
        case Call(arguments=arguments):
            return replace(node, at=at, arguments=tuple(_moved(each, at) for each in arguments))
        case Comparison(operands=operands) | Logic(operands=operands):
            return replace(node, at=at, operands=tuple(_moved(each, at) for each in operands))
        case Arithmetic(left=left, right=right):
            return replace(node, at=at, left=_moved(left, at), right=_moved(right, at))
        case Membership(operand=operand, collection=collection):
            return replace(node, at=at, operand=_moved(operand, at), collection=_moved(collection, at))
        case Minus(operand=operand) | Missing(operand=operand) | Not(operand=operand):
            return replace(node, at=at, operand=_moved(operand, at))
    return replace(node, at=at)


def parts_of(node: Node) -> tuple[Node, ...]:
    """The nodes that ``node`` is made of, in the order in which they are written."""
    match node:
        case Items(items=items):
            return items
        case Call(arguments=arguments):
            return arguments
        case Comparison(operands=operands) | Logic(operands=operands):
            return operands
        case Arithmetic(left=left, right=right):
            return (left, right)
        case Membership(operand=operand, collection=collection):
            return (operand, collection)
        case Minus(operand=operand) | Missing(operand=operand) | Not(operand=operand):
            return (operand,)
    return ()


def _size(node: Node) -> int:
    return 1 + sum(_size(part) for part in parts_of(node))


def _levels(node: Node) -> int:
    return 1 + max(map(_levels, parts_of(node)), default=0)


def circle_text(way: list[str]) -> str:
    """The mistake of a definition that goes in a circle."""
    return f"definition {shown(way[0])} goes in a circle: {' uses '.join(way)}; write one of them out"
