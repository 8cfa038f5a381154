"""``docker-compose.yml`` has the form of the Compose specification, and every service accepts what it is told there.

Compose itself checks the first where it is installed (``test_compose.py``); here a key that is misspelt or a value of
the wrong kind is found without it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from inspect import signature
from typing import Any

import pytest
import yaml
from repository import ROOT, SERVICES

from services.mesh.adapters.process import ProcessSettings
from services.mesh.feature_set import pinned_feature_set
from services.mesh.settings import Environment

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}

Check = Callable[[Any], bool]


def text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def texts(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(map(text, value))


def matches(pattern: str) -> Check:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def every(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def mapping(forms: dict[str, Check]) -> Check:
    return lambda value: isinstance(value, dict) and all(key in forms and forms[key](value[key]) for key in value)


DURATION = matches(r"(\d+(ms|s|m|h))+")
SIZE = matches(r"\d+[bkmg]")


def variables(value: Any) -> bool:
    """Texts alone: an unquoted number is turned into one by rules that differ, an unquoted ``on`` is a boolean."""
    return isinstance(value, dict) and all(text(k) and isinstance(v, str) for k, v in value.items())


def conditions(value: Any) -> bool:
    known = {"service_started", "service_healthy", "service_completed_successfully"}
    return isinstance(value, dict) and all(
        v.keys() == {"condition"} and v["condition"] in known for v in value.values()
    )


SERVICE: dict[str, Check] = {
    "build": mapping({"context": text, "dockerfile": text, "args": variables}),
    "cap_drop": texts,
    "command": texts,
    "cpus": lambda value: isinstance(value, float) and value > 0,
    "depends_on": conditions,
    "environment": variables,
    "healthcheck": mapping(
        {
            "test": lambda value: texts(value) and value[0] in ("CMD", "CMD-SHELL", "NONE"),
            "interval": DURATION,
            "timeout": DURATION,
            "start_period": DURATION,
            "retries": lambda value: type(value) is int and value > 0,
            "disable": lambda value: value is True,
        }
    ),
    "image": text,
    "mem_limit": SIZE,
    "ports": every(matches(r"(\d+\.){3}\d+:\d+:\d+")),
    "read_only": lambda value: value is True,
    "restart": matches(r"no|always|on-failure(:\d+)?|unless-stopped"),
    "security_opt": texts,
    "stop_grace_period": DURATION,
    "tmpfs": texts,
    "volumes": every(matches(r"[a-z./][A-Za-z0-9_./-]*:/[A-Za-z0-9_./-]+(:ro)?")),
}


def test_the_file_holds_what_compose_knows() -> None:
    assert {key for key in COMPOSE if not key.startswith("x-")} == {"name", "services", "volumes"}
    assert matches("[a-z0-9][a-z0-9_-]*")(COMPOSE["name"])
    assert all(options is None for options in COMPOSE["volumes"].values())


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_has_known_keys_with_values_of_their_kind(name: str) -> None:
    service = COMPOSE["services"][name]
    assert matches("[a-z0-9][a-z0-9_.-]*")(name)
    assert [key for key, value in service.items() if key not in SERVICE or not SERVICE[key](value)] == []
    assert ("build" in service) != ("image" in service)


@pytest.mark.parametrize("name", [name for name, service in OURS.items() if service.get("environment")])
def test_a_service_accepts_the_settings_that_it_is_given(name: str) -> None:
    room = OURS[name]["command"][-1].removeprefix("services.")
    environment = Environment(OURS[name]["environment"])
    ProcessSettings.read(environment)
    if (SERVICES / room / "settings.py").exists():
        settings = importlib.import_module(f"services.{room}.settings")
        for kind in vars(settings).values():
            if isinstance(kind, type) and kind.__module__ == settings.__name__ and hasattr(kind, "read"):
                asks = signature(kind.read).parameters
                kind.read(environment, *[pinned_feature_set().content_hash for name in asks if name == "feature_set"])
    environment.check()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("healthcheck", {"test": ["python"], "interval": "5s"}),
        ("healthcheck", {"test": ["CMD", "x"], "intervall": "5s"}),
        ("environment", {"WEIR_SLOT": 0}),
        ("environment", ["WEIR_SLOT"]),
        ("depends_on", {"kafka": {"condition": "healthy"}}),
        ("mem_limit", "1 GB"),
        ("ports", ["8081:8080"]),
        ("restart", False),
        ("volumes", ["keys"]),
        ("stop_grace_period", "10"),
    ],
)
def test_a_value_of_another_kind_is_noticed(key: str, value: Any) -> None:
    assert not SERVICE[key](value)
