"""The file of tokens: 0600, written whole or not at all, read again when it has changed."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from services.mesh.errors import Fatal
from services.mesh.tokens import TokenBook, read_book, written

FILE_NAME: Final = "tokens.json"  # in a data directory
LOOK_EVERY_S: Final = 1.0  # a token that is revoked works for a second more


class TokenFile:
    """The tokens in force, for a process that checks them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._book = TokenBook()
        self._seen: tuple[int, int, int] | None = None
        self._look_at_s = float("-inf")

    def book(self) -> TokenBook:
        """What the file holds, at most ``LOOK_EVERY_S`` old; nobody's tokens where there is no file.

        Raises Fatal when it cannot be read, is no file of tokens, or other users may read it.
        """
        if time.monotonic() >= self._look_at_s:
            found = _state(self._path)
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
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise Fatal(f"{path}: mode {mode:04o} lets other users read or change who may do what; chmod 600 {path}")
        return read_book(path.read_text("utf-8"), str(path))
    except FileNotFoundError:
        return TokenBook()
    except (OSError, UnicodeDecodeError) as error:
        raise Fatal(f"{path}: cannot read the tokens: {error}; check the file") from None


def change_tokens(path: Path, change: Callable[[TokenBook], TokenBook]) -> None:
    """Replace the file by what ``change`` makes of it, one writer after the other. Raises Fatal."""
    try:
        with open(f"{path}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _write_whole(path, written(change(read_tokens(path))))
    except OSError as error:
        raise Fatal(f"{path}: cannot write the tokens: {error.strerror}; check the directory") from None


def _write_whole(path: Path, text: str) -> None:
    """mkstemp creates with 0600."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
