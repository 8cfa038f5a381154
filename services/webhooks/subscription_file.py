"""The file of subscriptions: only its owner's because it holds secrets, read again when it has changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from services.mesh.adapters.private_file import State, only_writer, require_private, state_of, write_private
from services.mesh.errors import Fatal
from services.webhooks.subscription import Subscriptions, read_subscriptions, written


class SubscriptionFile:
    """The subscriptions in force, for the process that serves them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: State | None = None
        self._read = False

    def changed(self) -> Subscriptions | None:
        """What the file says, when it is another file than at the last call (and at the first); None otherwise.

        Costs one look at its state. Raises Fatal, once a change, when it cannot be understood: what it said before
        stays in force.
        """
        found = state_of(self._path)
        if self._read and found == self._seen:
            return None
        self._seen, self._read = found, True
        return load_subscriptions(self._path)


def load_subscriptions(path: Path) -> Subscriptions:
    """The subscriptions in ``path``; none where there is no file. Raises Fatal."""
    try:
        require_private(path, "read or change secrets")
        return read_subscriptions(path.read_text("utf-8"), str(path))
    except FileNotFoundError:
        return Subscriptions()
    except (OSError, UnicodeDecodeError) as error:
        raise Fatal(f"{path}: cannot read the webhooks: {error}; check the file") from None


def change_subscriptions(path: Path, change: Callable[[Subscriptions], Subscriptions]) -> None:
    """Replace the file by what ``change`` makes of it, one writer after the other. Raises Fatal."""
    try:
        with only_writer(path):
            write_private(path, written(change(load_subscriptions(path))))
    except OSError as error:
        raise Fatal(f"{path}: cannot write the webhooks: {error.strerror}; check the directory") from None
