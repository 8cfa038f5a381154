"""The words of a condition: numbers, text, names and operators, each with its place in the source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from services.decisions.mistakes import shown

CHARACTERS_MAX = 2_000  # a condition longer than this is not one that a person can check
NUMBER_MAX = 1e15  # above it a float64 no longer holds every amount in minor units; no honest limit is larger


class Kind(Enum):
    """What a token is."""

    NUMBER = auto()
    TEXT = auto()
    NAME = auto()
    SYMBOL = auto()  # operators, brackets and the words of the language
    END = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """One word; ``at`` is the offset of its first character in the condition."""

    kind: Kind
    source: str
    at: int


class ExpressionProblem(Exception):
    """A condition breaks a rule of the language at offset ``at``; the message shows the value and the remedy."""

    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at
        self.message = message


WORDS = frozenset({"and", "or", "not", "in", "is", "missing", "true", "false", "null"})

TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:\d[\d_]*(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<text>"[^"\\\n]*"|'[^'\\\n]*')
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<symbol><=|>=|==|!=(?!=)|[<>](?![<>])|[-+/(),\[\]]|\*(?!\*))
    """,
    re.VERBOSE,
)

# What people write who know another language, and what to write here; looked up longest first.
REMEDIES = {
    "===": "write ==",
    "!==": "write !=",
    "**": "powers are not part of the language: multiply",
    "<<": "shifts are not part of the language",
    ">>": "shifts are not part of the language",
    "<>": "write !=",
    "&&": "write and",
    "||": "write or",
    "//": "write / and floor()",
    "=": "write == to compare",
    "&": "write and",
    "|": "write or",
    "!": "write not",
    "%": "a remainder is not part of the language: write a share as 0.05",
    ".": "attributes are not part of the language: every column is one plain name",
    "@": "name a list without a sign in front",
    "$": "name a column without a sign in front",
    ":": "name a column without colons",
    "{": "write a list in [ ]",
    "}": "write a list in [ ]",
    "\\": "backslashes are not part of the language: use the other kind of quote around a quote",
    "“": 'write plain quotes "',
    "”": 'write plain quotes "',
    "‘": "write plain quotes '",
    "’": "write plain quotes '",
    "≥": "write >=",
    "≤": "write <=",
    "≠": "write !=",
}


def tokenize(source: str) -> list[Token]:
    """Cut a condition into tokens, an END token last.

    Raises:
        ExpressionProblem: at the first character that starts no token, or for a condition that is too long.
    """
    if len(source) > CHARACTERS_MAX:
        raise ExpressionProblem(0, f"condition has {len(source)} characters, {CHARACTERS_MAX} are allowed; split it")
    tokens: list[Token] = []
    at = 0
    while at < len(source):
        found = TOKEN.match(source, at)
        if found is None:
            raise _unreadable(source, at)
        word, kind = found.group(), found.lastgroup
        if kind == "number":
            _check_number(word, source, at)
            tokens.append(Token(Kind.NUMBER, word, at))
        elif kind == "text":
            tokens.append(Token(Kind.TEXT, word, at))
        elif kind == "name":
            tokens.append(Token(Kind.SYMBOL if word.lower() in WORDS else Kind.NAME, word, at))
        elif kind == "symbol":
            tokens.append(Token(Kind.SYMBOL, word, at))
        at = found.end()
    tokens.append(Token(Kind.END, "", len(source)))
    return [_lowered(token) for token in tokens]


def _lowered(token: Token) -> Token:
    """Words of the language may be written in capitals, as in SQL."""
    return Token(token.kind, token.source.lower(), token.at) if token.kind is Kind.SYMBOL else token


def _check_number(word: str, source: str, at: int) -> None:
    following = source[at + len(word) : at + len(word) + 1]
    if following.isalpha() or following == "_":
        raise ExpressionProblem(at, f"{shown(word + following)} is neither a number nor a name; put a space or quotes")
    if len(word) > 32 or not -NUMBER_MAX <= float(word) <= NUMBER_MAX:
        raise ExpressionProblem(at, f"number {shown(word)} is absurdly large; the largest allowed is {NUMBER_MAX:.0e}")


def _unreadable(source: str, at: int) -> ExpressionProblem:
    rest = source[at:]
    if rest[0] in "\"'":
        remedy = REMEDIES["\\"] if "\\" in rest else f"close it with {rest[0]} on the same line"
        return ExpressionProblem(at, f"text {shown(rest)} can't be read; {remedy}")
    for wrong in sorted(REMEDIES, key=len, reverse=True):
        if rest.startswith(wrong):
            return ExpressionProblem(at, f"unexpected {shown(wrong)} in {shown(source)}; {REMEDIES[wrong]}")
    return ExpressionProblem(at, f"unexpected character {shown(rest[0])} in {shown(source)}; remove it")
