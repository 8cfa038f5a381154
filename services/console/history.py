"""The last minutes as rings, one point a look: what charts begin with when a page is opened. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

KEPT_MS: Final = 15 * 60_000
POINTS_MAX: Final = 900
# Missing looks (nobody watched, the broker was away) are gaps, never lines across.
NUMBERS: Final = ("time_ms", "decided_per_s", "lag", "p50", "p95", "p99")


class History:
    """Points of the last quarter of an hour."""

    def __init__(self) -> None:
        self._points: deque[dict[str, Any]] = deque(maxlen=POINTS_MAX)

    def add(self, tick: Mapping[str, Any]) -> None:
        """One tick of the live stream."""
        now_ms = int(tick["time_ms"])
        self._points.append(point_of(tick))
        while self._points and self._points[0]["time_ms"] < now_ms - KEPT_MS:
            self._points.popleft()

    def told(self) -> list[dict[str, Any]]:
        """All points, oldest first."""
        return list(self._points)


def point_of(tick: Mapping[str, Any]) -> dict[str, Any]:
    """What charts keep of a tick."""
    totals, latency = tick["totals"], tick["latency_ms"] or {}
    stages = {row["name"]: [row["rate_per_s"], row["lag"]] for row in tick["stages"] if row["kind"] == "stage"}
    return {
        "time_ms": tick["time_ms"],
        "decided_per_s": totals["decided_per_s"],
        "lag": totals["lag"],
        "p50": latency.get("p50"),
        "p95": latency.get("p95"),
        "p99": latency.get("p99"),
        "actions": totals["actions_per_s"],
        "stages": stages,
    }
