"""What a process answers when it is asked how it is."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from services.mesh.adapters.health_server import TURN_WAIT_S_MAX, HealthServer
from services.mesh.adapters.memory import ManualClock
from services.mesh.errors import Fatal
from services.mesh.headers import Hop, pack_hop
from services.mesh.ports import OutRecord
from services.mesh.telemetry import StageTelemetry


class Asked:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.telemetry = StageTelemetry("scoring", self.clock)
        self.server = HealthServer(self.telemetry, self.clock, "127.0.0.1", 0)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture
def asked() -> Iterator[Asked]:
    made = Asked()
    yield made
    made.server.close()


def test_alive_as_long_as_the_loop_turns(asked: Asked) -> None:
    assert asked.get("/health/alive")[0] == 200
    asked.clock.advance_ms(int(TURN_WAIT_S_MAX * 1000))
    assert asked.get("/health/alive") == (503, "last turn 20.0 s ago\n")
    asked.telemetry.alive()
    assert asked.get("/health/alive")[0] == 200


def test_ready_once_it_owns_its_share(asked: Asked) -> None:
    assert asked.get("/health/ready")[0] == 503
    asked.telemetry.ready(True)
    assert asked.get("/health/ready") == (200, "ready\n")
    asked.telemetry.reopened("broker is away")
    asked.telemetry.ready(False)
    assert asked.get("/health/ready") == (503, "not ready; broker is away\n")


def test_a_halted_stage_is_alive_not_ready_and_says_why(asked: Asked) -> None:
    asked.telemetry.ready(True)
    asked.telemetry.halted("a flood of rejects; restart the stage")
    assert asked.get("/health/ready") == (503, "a flood of rejects; restart the stage\n")
    assert asked.get("/health/alive")[0] == 200
    assert 'weir_halted{stage="scoring"} 1.0' in asked.get("/metrics")[1]


def test_progress_and_metrics_count_batches(asked: Asked) -> None:
    header = ("weir", pack_hop(Hop(0, 0, 0, 0, 0)))
    outputs = [
        OutRecord("scores.v1", b"k", b"v", 0, [header]),
        OutRecord("dead-letters.v1", b"k", b"v", 0, [("error_code", b"undecodable")]),
    ]
    now_ms = asked.clock.now_ms()
    asked.telemetry.batch(
        records=3,
        repeats=1,
        outputs=outputs,
        step_s=0.1,
        commit_s=0.2,
        save_s=0.3,
        newest_append_time_ms=now_ms - 2_500,
    )
    asked.telemetry.owns([1, 4])
    asked.telemetry.in_force("model", "m1")
    progress = json.loads(asked.get("/health/progress")[1])
    assert (progress["records"], progress["batches"], progress["partitions"]) == (3, 1, [1, 4])
    assert progress["versions"] == {"model": "m1"}
    metrics = asked.get("/metrics")[1]
    for line in (
        'weir_records_total{stage="scoring"} 3.0',
        'weir_repeats_total{stage="scoring"} 1.0',
        'weir_outputs_total{stage="scoring",topic="scores.v1"} 1.0',
        'weir_rejects_total{code="undecodable",stage="scoring"} 1.0',
        'weir_input_age_seconds{stage="scoring"} 2.5',
        'weir_owned_partitions{stage="scoring"} 2.0',
    ):
        assert line in metrics


def test_any_other_path_names_the_right_ones(asked: Asked) -> None:
    status, text = asked.get("/")
    assert status == 404
    assert "/health/ready" in text


def test_a_port_that_is_taken_is_one_clear_error(asked: Asked) -> None:
    with pytest.raises(Fatal, match=f"WEIR_HEALTH_PORT={asked.server.port}: .*choose a free port"):
        HealthServer(asked.telemetry, asked.clock, "127.0.0.1", asked.server.port)


def test_who_does_not_wait_for_the_answer_is_no_news(asked: Asked, capfd: pytest.CaptureFixture[str]) -> None:
    """A probe gives up after its second; the process that was slow must not fill its log with tracebacks for it."""
    gone = socket.create_connection(("127.0.0.1", asked.server.port))
    gone.sendall(b"GET /health/al")
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
    gone.close()
    assert asked.get("/health/alive")[0] == 200
    answered()
    assert capfd.readouterr().err == ""


def test_what_fails_while_answering_is_told(asked: Asked, capfd: pytest.CaptureFixture[str]) -> None:
    asked.telemetry.health.last_turn_s = "never"  # type: ignore[assignment]
    with pytest.raises(http.client.RemoteDisconnected):
        asked.get("/health/alive")
    answered()
    assert "TypeError" in capfd.readouterr().err


def answered() -> None:
    """Wait for the threads that answer."""
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(10)
