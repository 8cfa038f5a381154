"""The file of tokens: 0600, written whole or not at all, read again when it has changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from services.mesh.adapters.private_file import State, only_writer, require_private, state_of, write_private
from services.mesh.errors import Fatal
from services.mesh.tokens import TokenBook, read_book, written

FILE_NAME: Final = "tokens.json"  # in a data directory
LOOK_EVERY_S: Final = 1.0  # a token that is revoked works for a second more


class TokenFile:
    """The tokens in force, for a process that checks them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._book = TokenBook()
        self._seen: State | None = None
        self._look_at_s = float("-inf")

    def book(self) -> TokenBook:
        """What the file holds, at most ``LOOK_EVERY_S`` old; nobody's tokens where there is no file.

        Raises Fatal when it cannot be read, is no file of tokens, or other users may read it.
        """
        if time.monotonic() >= self._look_at_s:
            found = state_of(self._path)
            if found != self._seen:
                # Forgotten first: a file that cannot be read admits nobody.
                self._book, self._seen = TokenBook(), None
                self._book = read_tokens(self._path)
                self._seen = found
            self._look_at_s = time.monotonic() + LOOK_EVERY_S
        return self._book


def read_tokens(path: Path) -> TokenBook:
    """The tokens in ``path``; none where there is no file. Raises Fatal."""
    try:
        require_private(path, "read or change who may do what")
        return read_book(path.read_text("utf-8"), str(path))
    except FileNotFoundError:
        return TokenBook()
    except (OSError, UnicodeDecodeError) as error:
        raise Fatal(f"{path}: cannot read the tokens: {error}; check the file") from None


def change_tokens(path: Path, change: Callable[[TokenBook], TokenBook]) -> None:
    """Replace the file by what ``change`` makes of it, one writer after the other. Raises Fatal."""
    try:
        with only_writer(path):
            write_private(path, written(change(read_tokens(path))))
    except OSError as error:
        raise Fatal(f"{path}: cannot write the tokens: {error.strerror}; check the directory") from None
