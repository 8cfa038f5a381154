"""A command imports what it needs: whoever asks for help, or for a list of tokens, does not wait for a Kafka client."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_imports import HEAVY, RECORDS, REDIS, modules_of

from services.cli.commands import COMMANDS

POLICY = str(Path(__file__).resolve().parents[3] / "schemas/payments/policy.yaml")

# Arguments -> what may be imported of what is heavy. D is a data directory of a mesh that does not run.
ALLOWED: dict[str, set[str]] = {
    "tokens list --data-dir D": set(),
    "users list --data-dir D": set(),
    "drift status --data-dir D": set(),
    "webhooks list --data-dir D": {"yaml"},
    "features names": {"yaml"},
    f"policy check {POLICY}": {"yaml", "numpy"},
    # These need a mesh. Their options are asked for here; tests/connected runs some whole.
    "audit list --help": RECORDS,
    "dead-letters list --help": RECORDS,
    "features get --help": RECORDS | REDIS | {"yaml"},
    "models list --help": RECORDS,
    "models verify --help": RECORDS | {"cryptography", "numpy"},
    "parity --help": RECORDS | {"yaml"},
    "policy list --help": RECORDS | {"yaml", "numpy"},
    "review list --help": REDIS | {"fastavro", "orjson"},
    "send --help": {"numpy", "orjson"},
    "status --help": RECORDS | REDIS | {"yaml", "prometheus_client"},
    "trace --help": RECORDS | {"prometheus_client"},
    "webhooks dead --help": RECORDS | {"yaml"},
    "webhooks test --help": {"asyncio", "concurrent.futures", "fastavro", "httpcore", "orjson", "yaml"},
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    (directory / "format").write_text("1\n")
    (directory / "drift").mkdir()
    report = {
        "event_time_ms": 0,
        "model": {"champion": "bootstrap", "has_reference": False},
        "coverage": {},
        "labels": {},
        "settings": {"false_alarms_per_week": 1.0},
        "alerts_open": [],
    }
    (directory / "drift" / "drift.json").write_text(json.dumps(report))
    return directory


def test_the_list_of_commands_imports_none_of_them() -> None:
    found = modules_of("--help")
    modules = {f"services.cli.{name.replace('-', '_')}" for name in COMMANDS}
    assert found & (modules | HEAVY) == set()


@pytest.mark.parametrize("line", ALLOWED)
def test_a_command_imports_what_it_needs(line: str, data_dir: Path) -> None:
    found = modules_of(*(str(data_dir) if word == "D" else word for word in line.split()))
    assert found & HEAVY - ALLOWED[line] == set()
