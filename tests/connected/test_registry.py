"""The deploy step and the registry: what is declared is there, what would break a reader is refused with the reason."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from services.mesh.adapters.kafka_journal import KafkaJournal
from services.mesh.adapters.registry import Registry
from services.mesh.codec import Codec, pinned_ids, schema
from services.mesh.errors import Fatal
from services.mesh.signing import load_public_key
from services.mesh.topics import DATA_PARTITIONS_DEFAULT, DECISIONS, MODELS, POLICIES, TOPICS
from services.platform.contracts import register_schemas
from services.platform.deploy import create_topics, deploy, retention_of
from services.platform.servers import Servers

pytest_plugins = ["fresh_registry"]
pytestmark = pytest.mark.connected
ROOT = Path(__file__).resolve().parents[2]
FILE = "decision.v1.avsc"


@pytest.fixture(scope="module")
def partitions(servers: Servers) -> int:
    """As many as another test has deployed on the shared broker, if one has."""
    found = AdminClient({"bootstrap.servers": servers.endpoints.kafka}).list_topics(timeout=20).topics
    return len(found[DECISIONS.name].partitions) if DECISIONS.name in found else DATA_PARTITIONS_DEFAULT


@pytest.fixture(scope="module")
def deployed(servers: Servers, fresh_registry: str, partitions: int) -> str:
    deploy(servers.endpoints.kafka, fresh_registry, partitions)
    return fresh_registry


@pytest.fixture
def registry(deployed: str) -> Iterator[Registry]:
    with Registry(deployed) as registry:
        yield registry


def changed(**new: Any) -> str:
    """The decision's contract with some of its first field's attributes replaced."""
    raw = copy.deepcopy(schema(FILE).raw)
    raw["fields"][0] |= new
    return json.dumps(raw)


def with_field(field: dict[str, Any]) -> str:
    raw = copy.deepcopy(schema(FILE).raw)
    return json.dumps(raw | {"fields": [*raw["fields"], field]})


def without_field(name: str) -> str:
    raw = copy.deepcopy(schema(FILE).raw)
    return json.dumps(raw | {"fields": [field for field in raw["fields"] if field["name"] != name]})


def state(servers: Servers, url: str) -> dict[str, Any]:
    """All that a deploy could change."""
    found = AdminClient({"bootstrap.servers": servers.endpoints.kafka}).list_topics(timeout=20).topics
    journal = KafkaJournal(servers.endpoints.kafka, POLICIES.name, "test.policies")
    try:
        policies = [record.value for record in journal.read_to_end()]
    finally:
        journal.close()
    with Registry(url) as registry:
        versions = {topic.name: registry.versions(f"{topic.name}-value") for topic in TOPICS}
    return {
        "partitions": {topic.name: len(found[topic.name].partitions) for topic in TOPICS},
        "versions": versions,
        "policies": policies,
    }


def test_a_deploy_brings_what_is_declared(servers: Servers, deployed: str, partitions: int) -> None:
    now = state(servers, deployed)
    assert now["partitions"] == {topic.name: topic.partition_count(partitions) for topic in TOPICS}
    for topic in TOPICS:
        assert sorted(now["versions"][topic.name]) == sorted(pinned_ids()[file] for file in topic.schemas)
    first = Codec("policy_release.v1.avsc").decode(now["policies"][0])
    assert first["policy"].startswith("# The policy that a new mesh")


def test_topics_keep_what_they_promise(servers: Servers, deployed: str) -> None:
    for topic in (DECISIONS, MODELS):
        assert retention_of(servers.endpoints.kafka, topic) == topic.config()


def test_a_second_deploy_changes_nothing(servers: Servers, deployed: str, partitions: int) -> None:
    before = state(servers, deployed)
    deploy(servers.endpoints.kafka, deployed, partitions)
    assert state(servers, deployed) == before


def test_the_job_of_the_compose_file_deploys_and_makes_a_key(
    servers: Servers, deployed: str, partitions: int, tmp_path: Path
) -> None:
    environ = {
        "WEIR_KAFKA": servers.endpoints.kafka,
        "WEIR_SCHEMA_REGISTRY": deployed,
        "WEIR_PARTITIONS": str(partitions),
        "WEIR_SIGNING_KEY": str(tmp_path / "signing.pem"),
    }

    def run(**changes: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, str(ROOT / "infra/deploy.py")]
        return subprocess.run(argv, env=environ | changes, cwd=ROOT, capture_output=True, text=True, timeout=90)

    first = run()
    assert (first.returncode, first.stderr) == (0, "")
    key = (tmp_path / "signing.pem").read_bytes()
    assert run(WEIR_PARTITIONS=str(partitions + 1)).returncode == 78
    assert (tmp_path / "signing.pem").read_bytes() == key
    load_public_key(tmp_path / "signing.pem.pub")


def test_another_partition_count_is_refused(servers: Servers, deployed: str, partitions: int) -> None:
    with pytest.raises(
        Fatal, match=rf"has {partitions} partitions, {partitions + 1} asked for.*keep the count"
    ) as refusal:
        create_topics(servers.endpoints.kafka, partitions + 1, 1)
    assert "\n" not in str(refusal.value)


def test_an_id_other_than_the_pinned_one_is_refused(registry: Registry) -> None:
    pins = dict(pinned_ids())
    pins[FILE], pins["score.v1.avsc"] = pins["score.v1.avsc"], pins[FILE]
    with pytest.raises(
        Fatal, match=r"has id \d+ in this registry, schemas/ids.json pins \d+: use a registry of its own"
    ):
        register_schemas(registry, pins)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("a field without a default", with_field({"name": "mood", "type": "string", "doc": "None."})),
        ("a field's type", changed(type="long")),
        ("a field's name", changed(name="id")),
        ("a field gone that had no default", without_field("terminal_id")),
        ("an enum's symbols", schema(FILE).text.replace('"decline"', '"refuse"')),
    ],
)
def test_an_incompatible_change_is_refused_with_the_reason(registry: Registry, change: str, text: str) -> None:
    subject = f"{DECISIONS.name}-value"
    before = registry.versions(subject)
    with pytest.raises(Fatal) as refusal:
        registry.register(subject, text, f"schemas/{FILE}")
    said = str(refusal.value)
    assert said.startswith(f"schemas/{FILE} as {subject}: FULL_TRANSITIVE refuses it: "), said
    assert said.endswith("only add fields with defaults, anything else is a new vN")
    assert "\n" not in said
    assert registry.versions(subject) == before


def test_the_reason_names_what_is_wrong(registry: Registry) -> None:
    text = with_field({"name": "mood", "type": "string", "doc": "None."})
    with pytest.raises(Fatal, match="mood"):
        registry.register(f"{DECISIONS.name}-value", text, f"schemas/{FILE}")


def test_compatibility_reaches_back_to_the_first_version(registry: Registry, own_name: str) -> None:
    """TRANSITIVE: compatible with the last version alone is not enough."""

    def record(*fields: dict[str, Any]) -> str:
        return json.dumps({"type": "record", "name": "R", "namespace": "weir.tests", "fields": list(fields)})

    base = {"name": "a", "type": "long"}
    registry.register(own_name, record(base, {"name": "b", "type": "string", "default": ""}), "v1")
    registry.register(own_name, record(base), "v2")
    with pytest.raises(Fatal, match="FULL_TRANSITIVE refuses it"):
        registry.register(own_name, record(base, {"name": "b", "type": "long", "default": 0}), "v3")


def test_an_optional_field_more_is_welcome(registry: Registry, own_name: str) -> None:
    first = registry.register(own_name, schema(FILE).text, f"schemas/{FILE}")
    text = with_field({"name": "mood", "type": ["null", "string"], "doc": "Mood; null: none.", "default": None})
    assert registry.register(own_name, text, f"schemas/{FILE}") != first
    assert len(registry.versions(own_name)) == 2


def test_nothing_is_known_of_a_subject_that_was_never_registered(registry: Registry, own_name: str) -> None:
    assert registry.versions(own_name) == {}
