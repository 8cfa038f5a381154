"""The mesh's own processes as children of the supervisor: every stage instance, the simulator, the trainer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from services.console.users import FILE_NAME as USERS_FILE
from services.mesh.adapters.lookup_reader import LOOKUP_FILE
from services.mesh.adapters.token_file import FILE_NAME as TOKENS_FILE
from services.mesh.topology import (
    CONSOLE,
    DRIFT,
    FEATURES_CUSTOMER,
    FEATURES_TERMINAL,
    GATEWAY,
    LOOKUP,
    OUTCOME_INTAKE,
    RETRAINING,
    REVIEW,
    STAGES,
    WEBHOOKS,
    Participant,
    Stage,
)
from services.platform.data_dir import DataDir
from services.platform.endpoints import Endpoints
from services.platform.ports import HOST
from services.platform.probes import health_port, http_answers
from services.platform.supervisor import ChildSpec
from services.webhooks.settings import FILE_NAME as WEBHOOKS_FILE

RUN = "run"  # where, in a data directory, every process tells how its health is asked
# What a mesh decides without: ``weir up --without`` takes these names.
OPTIONAL = (GATEWAY.name, CONSOLE.name, REVIEW.name, LOOKUP.name, DRIFT.name, RETRAINING.name, WEBHOOKS.name)
SENDERS_STOP, STAGES_STOP = 0, 1  # stop orders: first who brings events in, then who decides them; servers come later
# numpy and xgboost would each start a thread pool; every process is one thread by design.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# What tells apart stages that share a room.
_PARTS = {
    FEATURES_CUSTOMER.name: {"WEIR_VIEW": "customer"},
    FEATURES_TERMINAL.name: {"WEIR_VIEW": "terminal"},
    OUTCOME_INTAKE.name: {"WEIR_INTAKE": "outcomes"},
}


def stage_specs(
    data: DataDir, endpoints: Endpoints, partitions: int, instances: int, extra: Mapping[str, str]
) -> list[ChildSpec]:
    """Every stage ``instances`` times; each instance is a slot with a stable name."""
    return [
        _stage_spec(stage, slot, data, endpoints, partitions, extra) for stage in STAGES for slot in range(instances)
    ]


def simulator_spec(data: DataDir, endpoints: Endpoints, arguments: tuple[str, ...]) -> ChildSpec:
    """The outside world; it ends by itself when its input is sent."""
    state = data.path / "simulator.json"
    argv = (sys.executable, "-m", "services.simulator", "--kafka", endpoints.kafka, "--state", str(state), *arguments)
    return ChildSpec(
        name="simulator",
        argv=argv,
        stop_order=SENDERS_STOP,
        stop_s_max=2.5,  # what is not acknowledged by then is looked for at the next start
        once=True,
        # It ends when the broker is away for long, and goes on where it was; a fault in the input would come again.
        unhealthy_starts_max=8,
        config_restarts_max=0,
        error_marks=("simulator:",),
    )


def retraining_spec(
    data: DataDir, endpoints: Endpoints, signing_key: Path, label_delay: str, extra: Mapping[str, str]
) -> ChildSpec:
    """The controller, which starts a trainer whenever one is due."""
    own = {
        "WEIR_SIGNING_KEY": str(signing_key),
        "WEIR_TRAINING_DIR": str(data.path / "training"),
        "WEIR_LABEL_DELAY": label_delay,
    }
    return _participant_spec(RETRAINING, data, endpoints, own | _ONE_THREAD | dict(extra), SENDERS_STOP)


def drift_spec(data: DataDir, endpoints: Endpoints, extra: Mapping[str, str]) -> ChildSpec:
    """Compares what is counted with what was; one worker."""
    own = {"WEIR_DRIFT_DIR": str(data.path / "drift")}
    return _participant_spec(DRIFT, data, endpoints, own | _ONE_THREAD | dict(extra), STAGES_STOP)


def lookup_spec(data: DataDir, endpoints: Endpoints) -> ChildSpec:
    """Keeps the index from an event's identity to its offsets."""
    own = {"WEIR_LOOKUP_FILE": str(data.path / LOOKUP_FILE)}
    return _participant_spec(LOOKUP, data, endpoints, own, STAGES_STOP, stop_s_max=2.0)


def webhooks_spec(data: DataDir, endpoints: Endpoints, extra: Mapping[str, str]) -> ChildSpec:
    """Tells other systems; nobody until there is a subscription."""
    own = {"WEIR_WEBHOOKS_FILE": str(data.path / WEBHOOKS_FILE)}
    return _participant_spec(WEBHOOKS, data, endpoints, own | dict(extra), STAGES_STOP)


def gateway_spec(
    data: DataDir, endpoints: Endpoints, port: int, partitions: int, extra: Mapping[str, str]
) -> ChildSpec:
    """The way in over HTTP; nobody may use it until there is a token."""
    own = {
        "WEIR_GATEWAY_PORT": str(port),
        "WEIR_PARTITIONS": str(partitions),
        "WEIR_TOKENS_FILE": str(data.path / TOKENS_FILE),
        "WEIR_LOOKUP_FILE": str(data.path / LOOKUP_FILE),
    }
    return _participant_spec(GATEWAY, data, endpoints, own | dict(extra), SENDERS_STOP)


def console_spec(
    data: DataDir, endpoints: Endpoints, port: int, chart_file: Path, extra: Mapping[str, str]
) -> ChildSpec:
    """The page for people."""
    own = {
        "WEIR_REDIS": endpoints.redis,
        "WEIR_CONSOLE_PORT": str(port),
        "WEIR_USERS_FILE": str(data.path / USERS_FILE),
        "WEIR_RUN_DIR": str(data.path / RUN),
        "WEIR_LOOKUP_FILE": str(data.path / LOOKUP_FILE),
        "WEIR_DRIFT_DIR": str(data.path / "drift"),
        "WEIR_BACKTESTS_DIR": str(data.path / "backtests"),
        "WEIR_DATA_DIR": str(data.path),
        "WEIR_CHART_FILE": str(chart_file),
    }
    return _participant_spec(CONSOLE, data, endpoints, own | dict(extra), STAGES_STOP)


def health_file(data: DataDir, name: str) -> Path:
    """Where the instance called ``name`` writes the port that its health answers on."""
    return data.path / RUN / f"{name}.json"


def instance_name(stage: Stage, slot: int) -> str:
    """The supervisor's name of one slot."""
    return f"{stage.name}-{slot}"


def _participant_spec(
    who: Participant,
    data: DataDir,
    endpoints: Endpoints,
    own: Mapping[str, str],
    stop_order: int,
    *,
    stop_s_max: float = 3.0,
) -> ChildSpec:
    """One process that is no stage; ``own``: its environment beside what all have."""
    file, ready = _health(data, who.name)
    return ChildSpec(
        name=who.name,
        argv=(sys.executable, "-m", f"services.{who.service}"),
        env={"WEIR_KAFKA": endpoints.kafka, "WEIR_HEALTH_FILE": str(file), **own},
        health=ready,
        stop_order=stop_order,
        stop_s_max=stop_s_max,
        error_marks=("fatal:",),
    )


def _stage_spec(
    stage: Stage, slot: int, data: DataDir, endpoints: Endpoints, partitions: int, extra: Mapping[str, str]
) -> ChildSpec:
    name = instance_name(stage, slot)
    file, ready = _health(data, name)
    env = {
        "WEIR_KAFKA": endpoints.kafka,
        "WEIR_REDIS": endpoints.redis,
        "WEIR_SCHEMA_REGISTRY": endpoints.schema_registry,
        "WEIR_SLOT": str(slot),
        "WEIR_PARTITIONS": str(partitions),
        "WEIR_HEALTH_FILE": str(file),
        "WEIR_FEEDBACK_DIR": str(data.path / "feedback"),
        **_ONE_THREAD,
        **extra,
        **_PARTS.get(stage.name, {}),
    }

    argv = (sys.executable, "-m", f"services.{stage.service}")
    return ChildSpec(
        name=name, argv=argv, env=env, health=ready, stop_order=STAGES_STOP, stop_s_max=3.0, error_marks=("fatal:",)
    )


def _health(data: DataDir, name: str) -> tuple[Path, Callable[[], bool]]:
    """Where the process called ``name`` is to write its port, and whether it says that it is ready."""
    file = health_file(data, name)
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)

    def ready() -> bool:
        port = health_port(file)
        return port is not None and http_answers(HOST, port, "/health/ready")

    return file, ready
