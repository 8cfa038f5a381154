"""The row of webhooks in ``weir status``, from a process that serves its health, and without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.webhooks_status import webhooks_lines, webhooks_status
from services.mesh.adapters.health_server import HealthServer
from services.mesh.adapters.process import write_port
from services.mesh.adapters.system_clock import SystemClock
from services.mesh.telemetry import StageTelemetry
from services.webhooks.signature import secret_of
from services.webhooks.subscription import Secret, Subscription, Subscriptions
from services.webhooks.subscription_file import change_subscriptions


def subscription(name: str, *, paused: bool = False) -> Subscription:
    return Subscription(
        name=name,
        url="https://bank.example/hooks",
        actions=frozenset({"decline", "review"}),
        secrets=(Secret(text=secret_of(b"k" * 32)),),
        created_ms=1,
        since_ms=1,
        changed_ms=1,
        paused=paused,
    )


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    all_of = (subscription("bank"), subscription("till"), subscription("later", paused=True))
    change_subscriptions(tmp_path / "webhooks.yaml", lambda _: Subscriptions(all_of))
    return tmp_path


@pytest.fixture
def telemetry(data_dir: Path) -> Iterator[StageTelemetry]:
    """What the process of ``data_dir`` says."""
    clock = SystemClock()
    said = StageTelemetry("webhooks", clock)
    server = HealthServer(said, clock, "127.0.0.1", 0)
    write_port(str(data_dir / "run" / "webhooks.json"), server.port)
    yield said
    server.close()


def test_subscriptions_their_lag_and_which_are_down(data_dir: Path, telemetry: StageTelemetry) -> None:
    telemetry.ready(True)
    for name, lag, age_s, down, delivered in (("bank", 1_200, 61.5, 1, 7), ("till", 3, 0.25, 0, 4_000)):
        telemetry.metrics.set("weir_webhook_lag", lag, name)
        telemetry.metrics.set("weir_webhook_age_seconds", age_s, name)
        telemetry.metrics.set("weir_webhook_down", down, name)
        telemetry.metrics.add("weir_webhook_delivered", delivered, name)
    telemetry.metrics.set("weir_webhook_lag", 0, "later")  # it was served before it was paused
    telemetry.metrics.set("weir_webhook_lag", 9, "gone")  # no subscription any more
    found = webhooks_status(data_dir)
    actions = ["review", "decline"]
    assert found == {
        "instances": 1,
        "ready": 1,
        "lag": 1_203,
        "age_s": 61.5,
        "down": ["bank"],
        "subscriptions": [
            {"name": "bank", "actions": actions, "paused": False, "lag": 1_200, "age_s": 61.5, "down": True,
             "delivered": 7},
            {"name": "till", "actions": actions, "paused": False, "lag": 3, "age_s": 0.25, "down": False,
             "delivered": 4_000},
            {"name": "later", "actions": actions, "paused": True, "lag": None, "age_s": None, "down": False,
             "delivered": None},
        ],
        "error": None,
    }  # fmt: skip
    assert [" ".join(line.split()) for line in webhooks_lines(found)] == [
        "webhooks 1/1 1,203 61,500 ms 3 subscriptions, 1 paused",
        "down: bank takes nothing, 1,200 wait, the oldest for 62 s",
    ]


def test_a_process_that_does_not_answer_is_not_ready_and_its_lag_is_unknown(data_dir: Path) -> None:
    write_port(str(data_dir / "run" / "webhooks.json"), 1)
    found = webhooks_status(data_dir)
    assert (found["instances"], found["ready"], found["lag"], len(found["subscriptions"])) == (1, 0, None, 3)
    assert [" ".join(line.split()) for line in webhooks_lines(found)] == ["webhooks 0/1 - - 3 subscriptions, 1 paused"]


def test_a_mesh_that_tells_nobody(tmp_path: Path) -> None:
    found = webhooks_status(tmp_path)
    assert (found["instances"], found["subscriptions"], found["down"], found["error"]) == (0, [], [], None)
    assert [" ".join(line.split()) for line in webhooks_lines(found)] == ["webhooks 0/0 - - 0 subscriptions"]


def test_a_broken_file_is_said_and_the_rest_of_the_status_still_shown(data_dir: Path) -> None:
    (data_dir / "webhooks.yaml").write_text("{")
    found = webhooks_status(data_dir)
    assert "webhooks.yaml is no YAML" in found["error"]
    assert found["error"] in webhooks_lines(found)[-1]
