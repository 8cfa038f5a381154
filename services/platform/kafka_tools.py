"""Kafka's own command-line tools, from the jars that run the broker: for people, and to prove what they would see."""

from __future__ import annotations

from services.platform.endpoints import Endpoints
from services.platform.jars import Jars
from services.platform.java import java
from services.platform.registry_server import CONFLUENT_API

NATIVE_API = "/apis/registry/v3"  # what Apicurio's deserializer speaks
QUICK_JVM = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "--sun-misc-unsafe-memory-access=allow")
STRINGS = "org.apache.kafka.common.serialization.StringDeserializer"
AVRO = "io.apicurio.registry.serde.avro.AvroKafkaDeserializer"


def tool_argv(jars: Jars, main_class: str, *arguments: str) -> list[str]:
    """Return the command line of one of Kafka's tools; it can decode Avro."""
    return [java(), *QUICK_JVM, "-cp", f"{jars.kafka}/*:{jars.serde}/*", main_class, *arguments]


def console_consumer_argv(jars: Jars, endpoints: Endpoints, topic: str, records_max: int, wait_ms: int) -> list[str]:
    """Return the command line that prints ``key<TAB>record as JSON`` from the start of ``topic``, committed ones only.

    It ends after ``records_max`` records or ``wait_ms`` without one.
    """
    formatter = {
        "print.key": "true",
        "key.deserializer": STRINGS,
        "value.deserializer": AVRO,
        "value.deserializer.apicurio.registry.url": endpoints.schema_registry.replace(CONFLUENT_API, NATIVE_API),
    }
    options = ["--bootstrap-server", endpoints.kafka, "--topic", topic, "--from-beginning"]
    options += ["--max-messages", str(records_max), "--timeout-ms", str(wait_ms)]
    options += ["--command-property", "isolation.level=read_committed"]
    for name, value in formatter.items():
        options += ["--formatter-property", f"{name}={value}"]
    return tool_argv(jars, "org.apache.kafka.tools.consumer.ConsoleConsumer", *options)
