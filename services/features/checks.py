"""Reading a feature set's declaration: every mistake is collected, none ends the reading."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, TypeVar

import yaml

from services.features.windows import EVENT_OPS, WINDOW_OPS, EventOp, Line, WindowOp, duration_ms, size_bytes
from services.mesh.errors import Fatal

# Fields that can name a view's entity: the chain of topics has one link for each of them.
ENTITY_FIELDS: Final = ("customer_id", "terminal_id")

# 2**16 events of the largest amount that any card knows stay far below 64 bits, and one entity's value below 2 MB.
EXACT_EVENTS_MAX: Final = 65_536
EXACT_EVENTS_MIN: Final = 4
SPAN_MAX: Final = "400d"  # of a window with its delay; a typo such as 300d for 30d is caught by people, 3000d here

OPS: Final[tuple[EventOp | WindowOp, ...]] = (*EVENT_OPS, *WINDOW_OPS)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_VIEW_FIELDS: Final = ("name", "entity", "lateness", "exact_events_max", "tile_width", "memory", "features")
_LINE_FIELDS: Final = ("names", "op", "windows", "delay", "about")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredView:
    """One view as declared, checked."""

    name: str
    entity_field: str
    lateness_ms: int
    exact_events_max: int
    tile_width_ms: int
    memory_bytes: int
    lines: tuple[Line, ...]


def check_feature_set(text: str, place: str) -> tuple[str, tuple[DeclaredView, ...]]:
    """Name and views of the declaration ``text``; raises Fatal that lists every mistake."""
    reader = _Reader(place)
    name, views = reader.feature_set(text)
    if reader.mistakes:
        count = len(reader.mistakes)
        raise Fatal("\n  ".join((f"{place}: {count} mistake{'s' if count > 1 else ''}", *reader.mistakes)))
    return name, views


class _UniqueKeys(yaml.SafeLoader):
    """YAML keeps the last of two equal keys in silence; this loader refuses them."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Hashable, object]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for (key_node, _), key in zip(node.value, keys, strict=True):
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
    return loader.construct_mapping(node, deep=True)


_UniqueKeys.add_constructor("tag:yaml.org,2002:map", _mapping)


class _Reader:
    """Turns YAML into views and notes what is wrong; what it returns is used only when nothing was."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.mistakes: list[str] = []
        self.feature_places: dict[str, str] = {}

    def feature_set(self, text: str) -> tuple[str, tuple[DeclaredView, ...]]:
        try:
            document = yaml.load(text, _UniqueKeys)
        except yaml.YAMLError as error:
            raise Fatal(
                f"{self.place}: no YAML: {' '.join(str(error).split())}; see definitions.py for the form"
            ) from error
        fields = self._mapping(document, "the document", ("name", "views"), ("name", "views"))
        name = self._name(fields.get("name"), "name") if "name" in fields else ""
        entries = self._list(fields.get("views"), "views") if "views" in fields else []
        views = [self._view(entry, f"views[{at}]") for at, entry in enumerate(entries)]
        self._refuse_repeated([view.name for view in views], "views", "name")
        return name, tuple(views)

    def _view(self, document: object, at: str) -> DeclaredView:
        fields = self._mapping(document, at, _VIEW_FIELDS, _VIEW_FIELDS)
        entries = self._list(fields.get("features"), f"{at}.features") if "features" in fields else []
        lines = [self._line(entry, f"{at}.features[{number}]") for number, entry in enumerate(entries)]
        has_windows = False
        for line in filter(None, lines):
            if line.op in EVENT_OPS and has_windows:
                self._note(f"{at}.features", line.names[0], "needs the event alone: put it before those with windows")
            has_windows = has_windows or bool(line.windows_ms)
        return DeclaredView(
            name=self._name(fields["name"], f"{at}.name") if "name" in fields else "",
            entity_field=self._one_of(fields, "entity", at, ENTITY_FIELDS) or "",
            lateness_ms=self._duration(fields["lateness"], f"{at}.lateness") if "lateness" in fields else 0,
            exact_events_max=self._limit(fields, "exact_events_max", at),
            tile_width_ms=self._duration(fields["tile_width"], f"{at}.tile_width") if "tile_width" in fields else 0,
            memory_bytes=self._size(fields["memory"], f"{at}.memory") if "memory" in fields else 0,
            lines=tuple(filter(None, lines)),
        )

    def _line(self, document: object, at: str) -> Line | None:
        fields = self._mapping(document, at, _LINE_FIELDS, ("names", "op", "about"))
        pattern = self._text(fields["names"], f"{at}.names") if "names" in fields else ""
        about = self._text(fields["about"], f"{at}.about") if "about" in fields else ""
        op = self._one_of(fields, "op", at, OPS)
        if op in EVENT_OPS:
            for field in ("windows", "delay"):
                if field in fields:
                    self._note(f"{at}.{field}", fields[field], f"op {op} needs the event alone: leave {field} out")
            return Line(names=(self._feature(pattern, f"{at}.names"),), op=op, about=about)
        delay_ms = self._duration(fields["delay"], f"{at}.delay") if "delay" in fields else 0
        windows = self._windows(fields, at, op)
        if windows and pattern and "{window}" not in pattern:
            self._note(f"{at}.names", pattern, "write {window} where the window's length belongs, as in count_{window}")
            return None
        names = tuple(self._feature(pattern.replace("{window}", window), f"{at}.names") for window in windows)
        for window, window_ms in windows.items():
            if delay_ms + window_ms > duration_ms(SPAN_MAX):
                self._note(f"{at}.windows", window, f"with its delay it spans more than {SPAN_MAX}")
        if op is None:
            return None
        windows_ms = tuple(windows.values())
        return Line(names=names, op=op, about=about, windows_ms=windows_ms, delay_ms=delay_ms)

    def _windows(self, fields: dict[str, object], at: str, op: str | None) -> dict[str, int]:
        """Length of each window by its text."""
        if "windows" not in fields:
            if op is not None:
                self._note(f"{at}.windows", None, f"op {op} needs windows, as in [1d, 7d]")
            return {}
        entries = self._list(fields["windows"], f"{at}.windows")
        lengths = [self._duration(entry, f"{at}.windows[{number}]") for number, entry in enumerate(entries)]
        self._refuse_repeated([length for length in lengths if length], f"{at}.windows", "length in ms")
        return {str(entry): length for entry, length in zip(entries, lengths, strict=True) if length}

    def _feature(self, name: str, at: str) -> str:
        if name:
            self._name(name, at)
            if name in self.feature_places:
                self._note(at, name, f"is a feature already at {self.feature_places[name]}: choose another name")
            self.feature_places.setdefault(name, at)
        return name

    def _mapping(self, document: object, at: str, known: Iterable[str], needed: Iterable[str]) -> dict[str, object]:
        if not isinstance(document, dict):
            self._note(at, document, f"must be a mapping with {', '.join(needed)}")
            return {}
        for field in document:
            if field not in known:
                self._note(at, field, f"is no field{_did_you_mean(field, known)}")
        for field in needed:
            if field not in document:
                self._note(f"{at}.{field}", None, "is missing")
        return {field: value for field, value in document.items() if field in known}

    def _list(self, document: object, at: str) -> list[object]:
        if isinstance(document, list) and document:
            return document
        self._note(at, document, "must be a list with at least one entry")
        return []

    def _text(self, document: object, at: str) -> str:
        if isinstance(document, str) and document.strip():
            return document
        self._note(at, document, "must be a text")
        return ""

    def _name(self, document: object, at: str) -> str:
        if isinstance(document, str) and _NAME.fullmatch(document):
            return document
        self._note(at, document, "must be 1 to 63 of a-z, 0-9 and _, a letter first")
        return at

    def _one_of(self, fields: dict[str, object], field: str, at: str, known: tuple[T, ...]) -> T | None:
        if field not in fields:
            return None
        document = fields[field]
        for choice in known:
            if document == choice:
                return choice
        self._note(
            f"{at}.{field}", document, f"is none of {', '.join(map(str, known))}{_did_you_mean(document, known)}"
        )
        return None

    def _duration(self, document: object, at: str) -> int:
        try:
            return duration_ms(document)
        except ValueError as error:
            self.mistakes.append(f"{at}: {error}")
            return 0

    def _size(self, document: object, at: str) -> int:
        try:
            return size_bytes(document)
        except ValueError as error:
            self.mistakes.append(f"{at}: {error}")
            return 0

    def _limit(self, fields: dict[str, object], field: str, at: str) -> int:
        document = fields.get(field, EXACT_EVENTS_MIN)
        if type(document) is int and EXACT_EVENTS_MIN <= document <= EXACT_EVENTS_MAX:
            return document
        self._note(f"{at}.{field}", document, f"must be a whole number from {EXACT_EVENTS_MIN} to {EXACT_EVENTS_MAX}")
        return 0

    def _refuse_repeated(self, values: list[T], at: str, what: str) -> None:
        for value in dict.fromkeys(value for value in values if values.count(value) > 1):
            self._note(at, value, f"{what} stands twice: remove one")

    def _note(self, at: str, value: object, remedy: str) -> None:
        self.mistakes.append(f"{at}: {remedy}" if value is None else f"{at}={value!r}: {remedy}")


def _did_you_mean(value: object, known: Iterable[object]) -> str:
    close = get_close_matches(str(value), list(map(str, known)), n=1)
    return f"; did you mean {close[0]}?" if close else ""
