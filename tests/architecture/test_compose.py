"""``docker-compose.yml`` starts the mesh of the topology with settings that code reads: checked without an engine."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from repository import ROOT, place, python_files, strings

from services.mesh.adapters import health_server
from services.mesh.topics import DATA_PARTITIONS_DEFAULT
from services.mesh.topology import PARTICIPANTS, STAGES
from services.platform import jars, kafka_server

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
THEIRS = {name: service for name, service in SERVICES.items() if "image" in service}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
DOCKERFILE = (ROOT / "infra/service.Dockerfile").read_text()
# What the broker's settings are called in its image, and those that differ on purpose: addresses, and the two-core
# machine that the embedded broker shares with everything else.
ELSEWHERE = {
    "process.roles", "node.id", "controller.quorum.voters", "listeners", "advertised.listeners",
    "controller.listener.names", "listener.security.protocol.map", "log.dirs", "num.network.threads", "num.io.threads",
    "background.threads", "log.cleaner.dedupe.buffer.size",
}  # fmt: skip


def test_everybody_of_the_topology_is_there() -> None:
    names = {stage.name for stage in STAGES} | {who.name for who in PARTICIPANTS if who.service != "cli"}
    assert names == set(OURS)


@pytest.mark.parametrize("name", [stage.name for stage in STAGES])
def test_a_stage_runs_its_own_room_with_its_own_extra(name: str) -> None:
    stage = next(stage for stage in STAGES if stage.name == name)
    assert OURS[name]["command"] == ["python", "-m", f"services.{stage.service}"]
    assert OURS[name]["build"]["args"] == {"EXTRA": stage.service}


@pytest.mark.parametrize("name", [who.name for who in PARTICIPANTS if who.service not in ("platform", "cli")])
def test_a_participant_runs_its_own_room_with_its_own_extra(name: str) -> None:
    who = next(who for who in PARTICIPANTS if who.name == name)
    assert OURS[name]["command"][:3] == ["python", "-m", f"services.{who.service}"]
    assert OURS[name]["build"]["args"] == {"EXTRA": who.service}


@pytest.mark.parametrize("name", OURS)
def test_an_image_is_built_from_an_extra_that_exists(name: str) -> None:
    build = OURS[name]["build"]
    assert build["dockerfile"] == "infra/service.Dockerfile"
    assert build["args"]["EXTRA"] in EXTRAS


@pytest.mark.parametrize("name", OURS)
def test_every_variable_that_is_set_is_one_that_code_reads(name: str) -> None:
    read = {text for path in python_files("services", "infra") for text in strings(path)}
    assert [variable for variable in OURS[name].get("environment", {}) if variable not in read] == []


def test_the_two_views_are_told_apart() -> None:
    views = {OURS[f"features-{view}"]["environment"]["WEIR_VIEW"] for view in ("customer", "terminal")}
    assert views == {"customer", "terminal"}


def test_everybody_is_told_the_same_partition_count() -> None:
    told = {service["environment"].get("WEIR_PARTITIONS") for service in OURS.values() if service.get("environment")}
    assert told == {str(DATA_PARTITIONS_DEFAULT)}


@pytest.mark.parametrize("name", ["simulator"])
def test_the_arguments_of_a_command_are_ones_that_it_takes(name: str) -> None:
    told = [word for word in OURS[name]["command"] if word.startswith("--")]
    shown = subprocess.run(
        [sys.executable, *OURS[name]["command"][1:3], "--help"], capture_output=True, text=True, timeout=60, cwd=ROOT
    ).stdout
    assert told
    assert [option for option in told if option not in shown] == []


def test_every_image_is_pinned_to_a_version() -> None:
    images = {name: service["image"] for name, service in THEIRS.items()}
    base = re.search(r"^ARG PYTHON=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert base
    images["base"] = f"python:{base[1]}"
    for name, image in images.items():
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+(-[a-z0-9-]+)?", image), f"{name}: {image}"


def test_broker_and_registry_have_the_versions_of_the_embedded_platform() -> None:
    for name, pom in (("kafka", "kafka_2.13"), ("registry", "apicurio-registry-app")):
        text = (ROOT / f"services/platform/{name}.pom.xml").read_text()
        version = re.search(rf"<artifactId>{pom}</artifactId>\s*<version>([^<]+)", text)
        assert version
        assert THEIRS[name]["image"].endswith(f":{version[1]}")


def test_the_broker_has_the_settings_of_the_embedded_one() -> None:
    embedded = dict(
        line.split("=", 1) for line in kafka_server.SETTINGS.splitlines() if "=" in line and not line.startswith("#")
    )
    wanted = {
        "KAFKA_" + name.replace(".", "_").upper(): value for name, value in embedded.items() if name not in ELSEWHERE
    }
    found = THEIRS["kafka"]["environment"]
    assert {name: found.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("name", [name for name in OURS if name not in ("deploy", "retraining", "simulator")])
def test_a_service_is_asked_on_a_path_that_it_answers(name: str) -> None:
    service = OURS[name]
    asked = re.search(r"http://127\.0\.0\.1:(\d+)(/\S+?)'", service["healthcheck"]["test"][-1])
    assert asked
    assert asked[1] == service["environment"]["WEIR_HEALTH_PORT"]
    assert asked[2] == "/health/ready"
    assert asked[2] in set(strings(Path(health_server.__file__)))
    compile(service["healthcheck"]["test"][-1], "healthcheck", "exec")


@pytest.mark.parametrize("name", SERVICES)
def test_memory_is_limited(name: str) -> None:
    assert re.fullmatch(r"\d+[mg]", SERVICES[name]["mem_limit"])


def test_who_is_waited_for_exists_and_says_when_it_is_ready() -> None:
    for name, service in SERVICES.items():
        for other, wanted in service.get("depends_on", {}).items():
            assert other in SERVICES, name
            if wanted["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"], f"{name} waits for {other}, which has no health check"
            else:
                assert SERVICES[other]["restart"] == "no", f"{name} waits for the end of {other}"


@pytest.mark.parametrize("name", [stage.name for stage in STAGES])
def test_no_stage_starts_before_the_deploy(name: str) -> None:
    assert OURS[name]["depends_on"]["deploy"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", SERVICES)
def test_volumes_are_declared_and_files_exist(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("./.cache/jars/"):
            assert Path(source).name in jars.KINDS, "`make setup` fetches it"
        elif source.startswith("."):
            assert (ROOT / source).exists(), volume
        else:
            assert source in COMPOSE["volumes"], volume


def test_ports_are_published_on_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_prometheus_scrapes_everybody_who_has_metrics() -> None:
    config = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())
    targets = [
        target for job in config["scrape_configs"] for jobs in job["static_configs"] for target in jobs["targets"]
    ]
    expected = [
        f"{name}:{service['environment']['WEIR_HEALTH_PORT']}"
        for name, service in OURS.items()
        if "WEIR_HEALTH_PORT" in (service.get("environment") or {})
    ]
    assert sorted(targets) == sorted(expected)
    for file in config["rule_files"]:
        assert (ROOT / "infra/prometheus" / Path(file).name).exists()


def test_files_that_the_image_copies_exist() -> None:
    for line in DOCKERFILE.splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            *sources, _ = line.split()[1:]
            assert [source for source in sources if not (ROOT / source).exists()] == [], line


def locked_subset() -> ModuleType:
    spec = importlib.util.spec_from_file_location("locked_subset", ROOT / "infra/locked_subset.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_image_installs_what_the_lock_pins_with_its_hashes(tmp_path: Path) -> None:
    tool, lock = locked_subset(), (ROOT / "requirements.lock").read_text()
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"install": [{"metadata": {"name": name}} for name in ("weir", "NumPy", "fastavro")]}))
    text = tool.main([str(ROOT / "requirements.lock"), "--plan", str(plan)])
    assert [line.split("==")[0] for line in text.splitlines() if "==" in line] == ["numpy", "fastavro"]
    assert text.count("--hash=sha256:") > 10
    for line in text.splitlines():
        assert line in lock
    assert not text.rstrip().endswith("\\")
    with pytest.raises(SystemExit, match=r"requirements\.lock has no leftpad"):
        tool.subset(lock, ["leftpad"])


def test_the_lock_holds_the_build_backend_that_the_image_asks_for() -> None:
    asked = re.search(r"locked_subset.py requirements.lock ([a-z -]+) > backend.txt", DOCKERFILE)
    assert asked
    tool = locked_subset()
    assert tool.subset((ROOT / "requirements.lock").read_text(), asked[1].split())


def test_constraints_name_every_locked_version_and_no_hash() -> None:
    text = locked_subset().main(["--constraints", str(ROOT / "requirements.lock")])
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==\S+", line) for line in text.splitlines())
    assert len(text.splitlines()) > 50


def test_redis_forgets_nothing_in_silence() -> None:
    settings = dict(
        line.split(" ", 1)
        for line in (ROOT / "infra/redis/redis.conf").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["appendonly"] == "yes"


def test_every_file_under_infra_is_used() -> None:
    """By compose, by the image, or by a person who is told of it in the file itself."""
    said = (ROOT / "docker-compose.yml").read_text() + DOCKERFILE
    for path in (ROOT / "infra").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            told = said + (path.read_text() if path.suffix == ".properties" else "")
            assert str(path.relative_to(ROOT)) in told or f"./{path.parent.relative_to(ROOT)}:" in told, place(path)


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0,
    reason="no docker compose here",
)
def test_compose_itself_accepts_the_file() -> None:
    run = subprocess.run(["docker", "compose", "config", "--quiet"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
