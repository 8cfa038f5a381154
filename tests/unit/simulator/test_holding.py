"""Event time waits at midnights and mornings: until stages and control plane have settled, and no longer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from services.simulator.holding import DayHolds
from services.simulator.rhythm import DAY_MS, HOUR_MS


class Stages:
    """Settle after so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    async def all_zero(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def holds(stages: Stages, control: list[Path], nights: list[int], *, mornings: bool = True) -> DayHolds:
    return DayHolds(stages, control, asyncio.Event(), nights.append, mornings=mornings)


def process(folder: Path, answer: Callable[[], dict[str, Any]]) -> tuple[Path, ThreadingHTTPServer]:
    """A control-plane process that tells of itself by ``answer``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody listens."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    file = folder / "retraining.json"
    file.write_text(json.dumps({"port": server.server_address[1]}))
    return file, server


def test_moments_are_midnights_and_just_after_the_morning_tale() -> None:
    both = holds(Stages(0), [], [])
    assert both.after(0) == 8 * HOUR_MS + 1
    assert both.after(8 * HOUR_MS + 1) == DAY_MS
    assert both.after(DAY_MS - 1) == DAY_MS
    assert holds(Stages(0), [], [], mornings=False).after(5) == DAY_MS


def test_the_stages_settle_before_the_day_ends() -> None:
    nights: list[int] = []
    stages = Stages(3)
    asyncio.run(holds(stages, [], nights).hold(DAY_MS))
    assert stages.looks == -1
    assert nights == [DAY_MS]


def test_mornings_end_no_day() -> None:
    nights: list[int] = []
    asyncio.run(holds(Stages(0), [], nights).hold(8 * HOUR_MS + 1))
    assert nights == []


def test_an_idle_answer_from_before_the_labels_came_does_not_count(tmp_path: Path) -> None:
    answers: list[dict[str, Any]] = []

    def answer() -> dict[str, Any]:
        # Idle since long ago; then turns that find work; then idle again.
        turn = len(answers)
        state = {"idle": turn < 3 or turn > 8, "last_turn_s": 0.0 if turn < 3 else 1e12 + turn}
        answers.append(state)
        return state

    file, server = process(tmp_path, answer)
    nights: list[int] = []
    asyncio.run(holds(Stages(0), [file], nights).hold(DAY_MS))
    server.shutdown()
    server.server_close()
    assert nights == [DAY_MS]
    assert len(answers) > 9


def test_a_process_that_does_not_run_holds_nothing_up(tmp_path: Path) -> None:
    nights: list[int] = []
    asyncio.run(holds(Stages(0), [tmp_path / "drift.json"], nights).hold(DAY_MS))
    assert nights == [DAY_MS]
