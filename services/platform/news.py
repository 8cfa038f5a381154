"""What of all that happens to processes a person wants to read. Pure; the log book has everything."""

from __future__ import annotations

from collections.abc import Mapping

_ROUTINE = ("started as", "stopped")
_ENDS = {"simulator": "input sent", "retraining": "model trained"}


def news_of(name: str, what: str, *, is_server: bool, is_ready: bool) -> str | None:
    """The line about the process ``name``, None for routine.

    Until the mesh ``is_ready`` servers are reported one by one; the other processes start together, on one line.
    """
    if what.startswith(_ROUTINE):
        return None
    if what.startswith("healthy after") and not is_server and not is_ready:
        return None
    if what == "done":
        return _ENDS.get(name, f"{name}: done")
    return what if what.startswith(f"{name} ") else f"{name}: {what}"


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What is in force anew; nothing is news that was not there before."""
    return [
        f"{what} {version} in force, after {before[what]}"
        for what, version in now.items()
        if what in before and version != before[what]
    ]
