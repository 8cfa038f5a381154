"""What people write where a name or some of a closed set are asked for, checked in one way. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from services.mesh.errors import Fatal

Choice = TypeVar("Choice", bound=str)

# Plain enough for a consumer group, a file and a line of a log.
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def is_name(text: str) -> bool:
    """Whether something may be called that."""
    return _NAME.fullmatch(text) is not None


def checked_name(what: str, name: str) -> str:
    """``name``, when a ``what`` may be called that. Raises Fatal."""
    if not is_name(name):
        raise Fatal(
            f"{what} name {name!r}: must be 1 to 64 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit"
        )
    return name


def checked_choices(what: str, known: Sequence[Choice], names: Iterable[str], none: str) -> frozenset[Choice]:
    """``names`` as some of ``known``, each a ``what``. Raises Fatal for one that does not exist, and, saying ``none``,
    for none at all.
    """
    given = set(names)
    unknown = sorted(given - set(known))
    if unknown or not given:
        said = f"{what} {unknown[0]!r} does not exist" if unknown else none
        raise Fatal(f"{said}: name some of {', '.join(known)}")
    return frozenset(choice for choice in known if choice in given)


def separate(text: str) -> list[str]:
    """The parts of a list that was written with commas, without blanks and empty ones."""
    return [part.strip() for part in text.split(",") if part.strip()]
