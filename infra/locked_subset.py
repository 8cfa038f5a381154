"""Part of ``requirements.lock``, for an image that needs one extra only. It runs before anything is installed.

locked_subset.py LOCK NAME...             the blocks of these distributions, with their hashes
locked_subset.py LOCK --plan PLAN.json    the blocks of what ``pip install --report`` says would be installed
locked_subset.py --constraints LOCK       every version, without hashes (pip takes no hashes in constraints)
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

OURSELVES = "weir"


def blocks(lock: str) -> dict[str, str]:
    """Distribution -> its lines in the lock: the pinned version, then its hashes."""
    found: dict[str, str] = {}
    name = ""
    for line in lock.splitlines(keepends=True):
        if started := re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==", line):
            name = normal(started[1])
            found[name] = line
        elif name and line.lstrip().startswith("--hash="):
            found[name] += line
    return found


def subset(lock: str, names: list[str]) -> str:
    """The blocks of ``names``; SystemExit names those that the lock does not have."""
    known = blocks(lock)
    missing = [name for name in names if normal(name) not in known]
    if missing:
        sys.exit(f"requirements.lock has no {', '.join(missing)}: lock it anew after changing pyproject.toml")
    return "".join(known[normal(name)] for name in sorted(names))


def constraints(lock: str) -> str:
    """``name==version`` of every block."""
    return "".join(re.match(r"\S+", block)[0] + "\n" for block in blocks(lock).values())  # type: ignore[index]


def planned(report: str) -> list[str]:
    """Distributions in pip's installation report, ourselves left out."""
    names = [item["metadata"]["name"] for item in json.loads(report)["install"]]
    return [name for name in names if normal(name) != OURSELVES]


def normal(name: str) -> str:
    """As package indexes compare names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main(arguments: list[str]) -> str:
    """What to print."""
    if arguments[0] == "--constraints":
        return constraints(Path(arguments[1]).read_text())
    lock = Path(arguments[0]).read_text()
    if arguments[1] == "--plan":
        return subset(lock, planned(Path(arguments[2]).read_text()))
    return subset(lock, arguments[1:])


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1:]))
