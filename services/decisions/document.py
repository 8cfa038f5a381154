"""Read a policy's YAML into nodes that know their lines, taking nothing on trust.

Built on the parser's events instead of its objects, for three reasons: every value keeps its line; what was written
stays what was written (the country ``NO`` is not false, the terminal ``007`` is not 7); and aliases, tags and deep
nesting, with which a few bytes can fill a memory, are refused before anything is built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import yaml

from services.decisions.mistakes import Mistake, PolicyError, shown, suggest

CHARACTERS_MAX = 4_000_000  # a list of 100,000 ids with room to spare; parsed in about a second
DEPTH_MAX = 8  # the deepest honest policy has five levels

NULLS = frozenset({"", "~", "null", "Null", "NULL"})
DURATION = re.compile(r"(\d{1,6})([smhd])")
UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?")

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where the wheel has it: ten times faster


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as written; ``literal`` texts (``|``) keep their lines, of which the first is ``line``."""

    line: int
    text: str
    literal: bool = False
    null: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """A YAML list."""

    line: int
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """A YAML mapping from texts; ``lines`` holds the line of each key."""

    line: int
    entries: dict[str, Node]
    lines: dict[str, int]


Node: TypeAlias = Scalar | Sequence | Mapping
Report: TypeAlias = Callable[[int, str], None]


def read_document(text: str, place: str) -> tuple[Node, list[Mistake]]:
    """Parse one YAML document; return its root and the mistakes that did not keep it from being read.

    Raises:
        PolicyError: when it is not YAML at all, or uses what is refused outright.
    """
    if len(text) > CHARACTERS_MAX:
        mistake = f"policy has {len(text)} characters, {CHARACTERS_MAX} are allowed; move lists out of it"
        raise PolicyError(place, [Mistake(1, mistake)])
    mistakes: list[Mistake] = []
    try:
        builder = _Builder(yaml.parse(text, Loader=Loader), place, mistakes)
        return builder.document(), mistakes
    except yaml.MarkedYAMLError as error:
        # What is never closed ends at the end of the file; the reader wants to know where it begins.
        mark = error.context_mark if "end of stream" in str(error.problem) else error.problem_mark
        line = mark.line + 1 if mark else 1
        remedy = "check the indentation, and quote a text that holds `: ` or ` #` or starts with a sign"
        raise PolicyError(place, [Mistake(line, f"not YAML: {error.problem}; {remedy}")]) from error
    except (yaml.YAMLError, UnicodeError) as error:
        first = " ".join(str(error).split())[:120]
        raise PolicyError(place, [Mistake(1, f"not YAML: {first}; write plain UTF-8 text")]) from error


class _Builder:
    def __init__(self, events: Iterator[yaml.Event], place: str, mistakes: list[Mistake]) -> None:
        self.events = events
        self.place = place
        self.mistakes = mistakes

    def document(self) -> Node:
        root: Node | None = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self.refused(event, "a second document starts; one file holds one policy")
                root = self.node(next(self.events), 0)
        return root if root is not None else Scalar(1, "", null=True)

    def refused(self, event: yaml.Event, text: str) -> PolicyError:
        return PolicyError(self.place, [*self.mistakes, Mistake(_line(event), text)])

    def node(self, event: yaml.Event, depth: int) -> Node:
        line = _line(event)
        if anchor := getattr(event, "anchor", None):  # of an anchored node, or of an alias to one
            raise self.refused(event, f"anchor or alias {shown(anchor)}; write the value out, or use a named list")
        tag = getattr(event, "tag", None)
        if tag and tag != "!":  # "!" alone is what libyaml reports for a quoted text
            raise self.refused(event, f"tag {shown(tag)}; remove it, values need no tags here")
        if isinstance(event, yaml.ScalarEvent):
            literal = event.style == "|"
            plain = event.implicit[0]  # written without quotes, so that `~` means null and "~" a text
            return Scalar(line + literal, event.value, literal, null=plain and event.value in NULLS)
        if depth >= DEPTH_MAX:
            raise self.refused(event, f"nested deeper than {DEPTH_MAX} levels; a policy needs five")
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
                items.append(self.node(event, depth + 1))
            return Sequence(line, tuple(items))
        return self.mapping(line, depth)

    def mapping(self, line: int, depth: int) -> Mapping:
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.node(event, depth + 1)
            value = self.node(next(self.events), depth + 1)
            if not isinstance(key, Scalar) or key.null:
                self.mistakes.append(Mistake(key.line, "a key is not a text; write `name: value`"))
            elif key.text in entries:
                first = lines[key.text]
                self.mistakes.append(
                    Mistake(key.line, f"{shown(key.text)} is here a second time, first on line {first}; keep one")
                )
            else:
                entries[key.text], lines[key.text] = value, key.line
        return Mapping(line, entries, lines)


class Section:
    """One mapping of the policy under validation: asks for keys by type and reports everything amiss on the way.

    A getter reports at most one mistake and then returns its default, so that the caller goes on and finds the rest.
    ``close`` reports the keys that nobody asked for.
    """

    def __init__(self, node: Mapping, what: str, report: Report, line: int = 0) -> None:
        self.node = node
        self.head_line = line or node.line  # of the key that opens the section, where there is one
        self.what = what  # the name by which messages call this section
        self.report = report
        self.asked: set[str] = set()

    def line(self, key: str) -> int:
        """Return the line of a key, or of the section when the key is not there."""
        return self.node.lines.get(key, self.head_line)

    def get(self, key: str, remedy: str = "") -> Node | None:
        """Return a value, None when it is absent or null; absence is reported when a ``remedy`` is given."""
        self.asked.add(key)
        node = self.node.entries.get(key)
        if node is None or (isinstance(node, Scalar) and node.null):
            if remedy:
                self.report(self.line(key), f"{self.what} has no {key}; {remedy}")
            return None
        return node

    def scalar(self, key: str, remedy: str = "") -> Scalar | None:
        """Return a single value."""
        node = self.get(key, remedy)
        if isinstance(node, Scalar) or node is None:
            return node
        self.report(node.line, f"{key} of {self.what} is a {_shape(node)}; write one value")
        return None

    def text(self, key: str, remedy: str = "", characters_max: int = 200) -> str:
        """Return a text of one line, empty when absent or wrong."""
        node = self.scalar(key, remedy)
        if node is None:
            return ""
        text = " ".join(node.text.split())
        if not text.isprintable():
            self.report(node.line, f"{key} of {self.what} is {shown(text)}; remove its control characters")
        elif len(text) > characters_max:
            self.report(node.line, f"{key} of {self.what} has {len(text)} characters; {characters_max} are allowed")
        elif text:
            return text
        elif remedy:
            self.report(node.line, f"{key} of {self.what} is empty; {remedy}")
        return ""

    def pattern(self, key: str, allowed: re.Pattern[str], remedy: str, required: bool = True) -> str:
        """Return a text of a given form, empty when absent or wrong."""
        text = self.text(key, remedy if required else "")
        if text and not allowed.fullmatch(text):
            self.report(self.line(key), f"{key} of {self.what} is {shown(text)}; {remedy}")
            return ""
        return text

    def choice(self, key: str, known: Collection[str], remedy: str = "") -> str:
        """Return one of the known words, empty when absent or wrong."""
        text = self.text(key, remedy)
        if text and text not in known:
            self.report(self.line(key), f"{key} of {self.what} is {shown(text)}{suggest(text, known)}")
            return ""
        return text

    def number(self, key: str, low: float, high: float, remedy: str) -> float | None:
        """Return a number with ``low <= number <= high``, None when absent or wrong."""
        node = self.scalar(key)
        if node is None:
            return None
        if not NUMBER.fullmatch(node.text) or not low <= float(node.text) <= high:
            self.report(node.line, f"{key} of {self.what} is {shown(node.text)}; {remedy}")
            return None
        return float(node.text)

    def whole(self, key: str, low: int, high: int, remedy: str) -> int | None:
        """Return a whole number with ``low <= number <= high``, None when absent or wrong."""
        number = self.number(key, low, high, remedy)
        if number is not None and number != int(number):
            self.report(self.line(key), f"{key} of {self.what} is {number:g}, not a whole number; {remedy}")
            return None
        return None if number is None else int(number)

    def duration_ms(self, key: str, low: int, high: int, remedy: str) -> int | None:
        """Return a duration such as 90s, 5m, 6h, 7d in milliseconds, None when absent or wrong."""
        node = self.scalar(key)
        if node is None:
            return None
        found = DURATION.fullmatch(node.text)
        duration_ms = int(found[1]) * UNITS_MS[found[2]] if found else -1
        if not low <= duration_ms <= high:
            self.report(node.line, f"{key} of {self.what} is {shown(node.text)}; {remedy}")
            return None
        return duration_ms

    def section(self, key: str, remedy: str = "") -> Section | None:
        """Return a mapping below this one."""
        node = self.get(key, remedy)
        if isinstance(node, Mapping):
            return Section(node, key, self.report, self.line(key))
        if node is not None:
            self.report(node.line, f"{key} of {self.what} is a {_shape(node)}; write `key: value` lines below it")
        return None

    def items(self, key: str, remedy: str = "") -> tuple[Node, ...]:
        """Return the items of a list below this section."""
        node = self.get(key, remedy)
        if isinstance(node, Sequence):
            return node.items
        if node is not None:
            self.report(node.line, f"{key} of {self.what} is a {_shape(node)}; write a list, each item after a dash")
        return ()

    def sections(self, key: str, one: str, remedy: str = "") -> list[Section]:
        """Return a list of mappings; ``one`` says what each of them is."""
        found: list[Section] = []
        for index, node in enumerate(self.items(key, remedy), 1):
            if isinstance(node, Mapping):
                name = node.entries.get("name")
                what = f"{one} {shown(name.text)}" if isinstance(name, Scalar) else f"{one} number {index}"
                found.append(Section(node, what, self.report))
            else:
                self.report(node.line, f"{one} number {index} is a {_shape(node)}; write it as `name: ...` lines")
        return found

    def close(self) -> None:
        """Report every key that is not part of this section."""
        for key in self.node.entries.keys() - self.asked:
            self.report(self.line(key), f"{self.what} has an unknown key {shown(key)}{suggest(key, self.asked)}")


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _shape(node: Node) -> str:
    return {Scalar: "single value", Sequence: "list", Mapping: "mapping"}[type(node)]
