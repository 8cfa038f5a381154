"""The sender's latest report, from its log: one JSON object a line. The log goes on where an earlier run ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_TAIL_BYTES = 4_096  # a report has 300


def latest_report(log: Path, since_s: float) -> dict[str, Any]:
    """The last whole report that was made after ``since_s`` (wall clock); empty before the first."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return {}
    for line in reversed(lines):
        if line.startswith(b"{") and line.endswith(b"}"):
            found: dict[str, Any] = json.loads(line)
            return found if found["wall_s"] >= since_s else {}
    return {}


def phase_of(report: dict[str, Any]) -> str:
    """What the sender is doing, in words."""
    if not report:
        return "no input yet"
    if report.get("done"):
        return "input sent"
    phase = "sending past days" if report.get("phase") == "history" else "sending"
    return f"{phase}, waiting for decisions" if report.get("waiting") == "window" else phase
