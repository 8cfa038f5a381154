"""The embedded broker: one KRaft node, broker and controller in one process."""

from __future__ import annotations

import base64
import os
import struct
import subprocess
import uuid
from functools import partial
from pathlib import Path

from services.mesh.errors import Fatal
from services.platform import probes
from services.platform.data_dir import DataDir
from services.platform.files import write_atomically
from services.platform.jars import Jars
from services.platform.java import ENVIRONMENT, crash_file, java
from services.platform.ports import HOST
from services.platform.supervisor import ChildSpec

USUAL_PORT, USUAL_CONTROLLER_PORT = 9092, 9093
LOG4J2 = Path(__file__).with_name("kafka.log4j2.xml")
FORMAT_S_MAX = 60

SETTINGS = """\
# Written anew at each start. Records stay in {log_dir}
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={log_dir}

# A topic exists because it is declared, never because a client misspelt one.
auto.create.topics.enable=false
# Nothing expires unless its topic says so, and a mesh that was off for a month finds its offsets again.
log.retention.ms=-1
offsets.retention.minutes=5256000
# Models travel in records (models.v1); every other topic sets its own, smaller limit.
message.max.bytes=16777216
# 1 MiB indexes a segment of 256 MiB (12 bytes per 4 KiB); the default preallocates 10 MiB twice per partition.
log.segment.bytes=268435456
log.index.size.max.bytes=1048576

# One broker holds every copy there is.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# The defaults of 50 partitions cost seconds of start for a handful of groups.
offsets.topic.num.partitions=8
transaction.state.log.num.partitions=8

# A dead service's partitions move within seconds, and its open transaction blocks readers no longer than it must.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=300
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
# A killed broker may register again only when its old session has expired: the default of 9 s is most of its recovery.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500

# Two cores are shared with everything else.
num.network.threads=2
num.io.threads=4
background.threads=4
log.cleaner.dedupe.buffer.size=33554432
"""

JVM = (
    "-Xms256m",
    "-Xmx768m",
    # Measured at 12,000 records/s on two cores: pauses up to 34 ms, the serial collector's up to 94 at the same CPU.
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    # Kafka and its compression libraries use both on purpose; the log is for what somebody can act on.
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
)
ERROR_MARKS = (" ERROR ", " FATAL ", "Exception", "Error: ")


def class_path(jars: Jars) -> tuple[str, ...]:
    """Return where Java finds the broker and its storage tool."""
    return ("-cp", f"{jars.kafka}/*")


def prepare(data: DataDir, jars: Jars, port: int, controller_port: int, sharing: tuple[str, ...] = ()) -> ChildSpec:
    """Write the settings, format the storage on the first start, and return what the supervisor shall run.

    ``sharing``: further options of Java, see ``class_archive``.

    Raises:
        Fatal: no Java, a path that Kafka can't name, or the storage can't be formatted or is damaged.
    """
    if "," in str(data.path):
        raise Fatal(f"{data.path} has a ',', which ends a directory name in Kafka's settings: name another directory")
    log_dir = data.kafka / "log"
    settings = data.kafka / "server.properties"
    fields = {"host": HOST, "port": port, "controller_port": controller_port, "log_dir": _escaped(log_dir)}
    write_atomically(settings, SETTINGS.format(**fields))
    if not (log_dir / "meta.properties").exists():
        _format(data, jars, settings, log_dir, sharing)
    cluster_id = read_cluster_id(log_dir / "meta.properties")
    return ChildSpec(
        name="kafka",
        env=ENVIRONMENT,
        argv=(*_java(data, jars, sharing), *JVM, "kafka.Kafka", str(settings)),
        health=partial(probes.kafka_answers, HOST, port, cluster_id),
        stop_order=40,
        stop_s_max=2.5,  # measured: 0.3 s idle; a killed broker recovers its log at the next start
        silent_s_max=60.0,
        unhealthy_starts_max=3,
        error_marks=ERROR_MARKS,
        remedy=f"see {data.log('kafka')}",
    )


def read_cluster_id(meta: Path) -> str:
    """Return the cluster's id from ``meta.properties``.

    Raises:
        Fatal: the file is damaged.
    """
    lines = dict(line.split("=", 1) for line in meta.read_text(errors="replace").splitlines() if "=" in line)
    if not lines.get("cluster.id") or lines.get("node.id") != "1":
        raise Fatal(f"{meta} is corrupt (no cluster.id or no node.id=1): restore it, or name a new directory")
    return lines["cluster.id"].strip()


def _format(data: DataDir, jars: Jars, settings: Path, log_dir: Path, sharing: tuple[str, ...]) -> None:
    if any(log_dir.glob("*-0")):  # a partition: it has been in use
        raise Fatal(f"{log_dir} holds records but no meta.properties: restore that file, or name a new directory")
    # transaction.version 2 is KIP-890's stricter protocol, for the clients that know it.
    tool = ("kafka.tools.StorageTool", "format", "-t", _new_cluster_id(), "-c", str(settings))
    quick = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # a JVM that lives one second
    argv = (*_java(data, jars, sharing), *quick, *tool, "--feature", "transaction.version=2")
    with data.log("kafka").open("ab") as output:
        status = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **ENVIRONMENT},
            timeout=FORMAT_S_MAX,
        ).returncode
    if status != 0:
        raise Fatal(f"{log_dir} can't be formatted (status {status}): see {data.log('kafka')}")


def _java(data: DataDir, jars: Jars, sharing: tuple[str, ...]) -> tuple[str, ...]:
    logging = f"-Dlog4j2.configurationFile={LOG4J2}"
    return (java(), crash_file(data.logs, "kafka"), *sharing, logging, *class_path(jars))


def _new_cluster_id() -> str:
    """Return 16 random bytes as Kafka writes them: 22 characters of base64, the first no dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _escaped(path: Path) -> str:
    """Return a path as a Java properties file takes it: backslashes doubled, UTF-16 units beyond ASCII as \\uXXXX."""
    units = struct.iter_unpack(">H", str(path).replace("\\", "\\\\").encode("utf-16-be"))
    return "".join(chr(unit) if unit < 128 else f"\\u{unit:04x}" for (unit,) in units)
