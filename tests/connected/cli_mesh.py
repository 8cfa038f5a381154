"""What the commands' tests send, wait for and read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.platform.endpoints import Endpoints
from services.platform.observe import Observer

START_MS = 1_522_540_800_000
MINUTE_MS = 60_000
EVENTS = 240
READY_S_MAX = 90.0
SETTLE_S_MAX = 30.0
# Refused one by one; the rest of the file is accepted.
BAD_LINES = {
    "broken": ("malformed_json", '{{"event_id": "{id}", "customer_id": "c1", "event_time_ms": {time},'),
    "negative": (
        "out_of_range",
        '{{"event_id": "{id}", "customer_id": "c1", "terminal_id": "t1", "event_time_ms": {time}, "amount_minor": -5}}',
    ),
    "typo": (
        "unknown_field",
        '{{"event_id": "{id}", "customer_id": "c1", "terminal_id": "t1", "event_time_ms": {time}, "amount_minor": 5,'
        ' "curency": "EUR"}}',
    ),
}

Weir = Callable[..., tuple[int, str, str]]


class Mesh:
    """A running mesh that has decided one file."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints.read(self.data_dir)


def payments() -> list[str]:
    """JSON lines: 12 customers at 5 terminals; ``shared`` is an id that two customers have; some lines are refused."""
    lines = []
    for number in range(EVENTS):
        event = {
            "event_id": "shared" if number in (100, 101) else f"e{number}",
            "event_time_ms": START_MS + number * MINUTE_MS,
            "customer_id": f"c{number % 12}",
            "terminal_id": f"t{number % 5}",
            "amount_minor": 100 + number,
            "is_fraud": number % 40 == 0,
        }
        lines.append(json.dumps(event))
        if number == 200:
            lines += [text.format(id=name, time=event["event_time_ms"]) for name, (_, text) in BAD_LINES.items()]
    return lines


def until(seconds: float, is_true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline_s, f"not within {seconds} s"
        time.sleep(0.1)


def is_decided(observer: Observer) -> bool:
    stages = observer.stages()
    decided = sum(stage.records for stage in stages if stage.stage == "decisions")
    return all(stage.lag == 0 for stage in stages) and decided == EVENTS


def is_ready(data_dir: Path) -> bool:
    return (data_dir / "endpoints.json").exists() and Endpoints.read(data_dir).ready


def read_json(ran: tuple[int, str, str]) -> Any:
    status, out, err = ran
    assert status == 0, err
    return json.loads(out)


def refused(ran: tuple[int, str, str]) -> str:
    """The one line of an error."""
    status, out, err = ran
    assert status == 1
    assert out == ""
    assert err.startswith("weir: ")
    assert err.count("\n") == 1, err
    return err
