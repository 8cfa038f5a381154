"""How a wrong policy is refused: every mistake at once, each in one line with its place, value and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.mesh.errors import Fatal

SHOWN_CHARACTERS_MAX = 60  # of a wrong value; enough to recognise it, short enough for one line


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing that is wrong: ``line`` counts from 1, ``text`` shows the value and the remedy."""

    line: int
    text: str


class PolicyError(Fatal):
    """The policy is refused whole; ``mistakes`` holds everything that is wrong with it, by line."""

    def __init__(self, place: str, mistakes: Iterable[Mistake]) -> None:
        self.place = place
        self.mistakes: Sequence[Mistake] = tuple(sorted(set(mistakes)))
        lines = [f"{place}:{mistake.line}: {mistake.text}" for mistake in self.mistakes]
        if len(lines) > 1:
            lines = [f"{place}: refused for {len(lines)} mistakes", *(f"  {line}" for line in lines)]
        super().__init__("\n".join(lines))


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Return ``; did you mean ...?`` when something known is close to ``wrong``, else a few of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(wrong, names, n=2, cutoff=0.6)
    if not close:
        close = [name for name in names if name.lower() == wrong.lower()]
    if close:
        return f"; did you mean {' or '.join(close)}?"
    if len(names) > 12:
        return f"; known are {', '.join(names[:12])} and {len(names) - 12} more"
    return f"; known are {', '.join(names)}" if names else ""


def shown(value: str) -> str:
    """Return a value from outside as it may stand in a one-line message: quoted, printable, cut to a bounded length."""
    printable = "".join(c if c.isprintable() else "?" for c in " ".join(value.split()))
    if len(printable) > SHOWN_CHARACTERS_MAX:
        printable = printable[: SHOWN_CHARACTERS_MAX - 3] + "..."
    return f"`{printable}`"
