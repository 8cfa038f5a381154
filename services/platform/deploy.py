"""The deploy step: topics as ``mesh.topics`` declares them, schemas as ``schemas/`` holds them, a first policy.

Services never create or register anything. Running it again changes nothing; what exists otherwise than declared is an
error with its remedy.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from services.decisions.policy import load_policy
from services.mesh.adapters.kafka_append import append
from services.mesh.adapters.kafka_journal import KafkaJournal
from services.mesh.adapters.registry import Registry
from services.mesh.codec import Codec
from services.mesh.errors import Fatal
from services.mesh.feature_set import pinned_feature_set
from services.mesh.records import PolicyRelease
from services.mesh.topics import POLICIES, TOPICS, Topic
from services.mesh.watermark import check_partitions
from services.platform.contracts import register_schemas

DEFAULT_POLICY = "payments/policy.yaml"
_WAIT_S = 30.0
_REPLICATION_EMBEDDED = 1


def deploy(bootstrap: str, registry_url: str, partitions: int, replication: int = _REPLICATION_EMBEDDED) -> None:
    """Everything a mesh needs before its services start. Raises Fatal."""
    create_topics(bootstrap, partitions, replication)
    # Side by side: a new broker's coordinator makes the first producer wait for a second.
    with ThreadPoolExecutor(1) as beside, Registry(registry_url) as registry:
        published = beside.submit(publish_first_policy, bootstrap)
        register_schemas(registry)
        published.result()


def create_topics(bootstrap: str, partitions: int, replication: int) -> None:
    """Create what is missing; refuse topics that exist with another partition count."""
    check_partitions(partitions)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    try:
        found = admin.list_topics(timeout=_WAIT_S).topics
    except KafkaException as error:
        raise Fatal(f"broker {bootstrap}: {error.args[0].str()}; is it running?") from error
    for topic in TOPICS:
        known = found.get(topic.name)
        if known is not None and len(known.partitions) != topic.partition_count(partitions):
            raise Fatal(
                f"topic {topic.name} has {len(known.partitions)} partitions, {topic.partition_count(partitions)} asked "
                "for: keys would change their partition; keep the count, or start on a new data directory"
            )
    missing = [topic for topic in TOPICS if topic.name not in found]
    created = admin.create_topics([_new_topic(topic, partitions, replication) for topic in missing]) if missing else {}
    for name, future in created.items():
        try:
            future.result(_WAIT_S)
        except KafkaException as error:
            raise Fatal(f"creating topic {name}: {error.args[0].str()}") from error


def publish_first_policy(bootstrap: str) -> None:
    """Publish the default policy when none was ever published."""
    journal = KafkaJournal(bootstrap, POLICIES.name, "deploy.policies")
    try:
        if journal.read_to_end():
            return
    finally:
        journal.close()
    text = files("schemas").joinpath(DEFAULT_POLICY).read_text()
    publish_policy(bootstrap, text, f"schemas/{DEFAULT_POLICY}", author="deploy", why="first policy of a new mesh")


def publish_policy(bootstrap: str, text: str, place: str, author: str, why: str) -> str:
    """Check ``text`` and put it in force; returns its version. Raises PolicyError, Fatal."""
    version = load_policy(text, place, pinned_feature_set().names).version
    release: PolicyRelease = {
        "policy_version": version,
        "author": author,
        "why": why,
        "policy": text,
        "move": "publish",
        "percent": 100,
        "approver": None,
        "expects": None,
        "diff": "",
    }
    append(bootstrap, POLICIES, version, Codec("policy_release.v1.avsc").encode(release))
    return version


def retention_of(bootstrap: str, topic: Topic) -> dict[str, str]:
    """The broker's settings of ``topic``, for checks and status."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic.name)
    described = admin.describe_configs([resource])[resource].result(_WAIT_S)
    return {name: entry.value for name, entry in described.items() if name in topic.config()}


def _new_topic(topic: Topic, partitions: int, replication: int) -> NewTopic:
    return NewTopic(topic.name, topic.partition_count(partitions), replication, config=topic.config())
