"""The embedded schema registry: Apicurio on an H2 file, asked through its Confluent-compatible API."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from services.mesh.errors import Fatal
from services.platform import probes
from services.platform.data_dir import DataDir
from services.platform.jars import Jars
from services.platform.java import ENVIRONMENT, crash_file, java
from services.platform.ports import HOST
from services.platform.supervisor import ChildSpec

USUAL_PORT = 8081
DATABASE_FILE, DATABASE_MAGIC = "registry.mv.db", b"H:2,"  # the first bytes of every H2 MVStore file
CONFLUENT_API = "/apis/ccompat/v7"

# Compiled once and lightly: it starts in half the time and then answers a few requests an hour.
JVM = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError")
ERROR_MARKS = (" ERROR ", "Exception", "Error: ")


def class_path(jars: Jars) -> tuple[str, ...]:
    """Return where Java finds the registry, and what it starts there."""
    return ("-jar", str(jars.registry / "quarkus-run.jar"))


def prepare(data: DataDir, jars: Jars, port: int, sharing: tuple[str, ...] = ()) -> ChildSpec:
    """Return what the supervisor shall run; ``sharing``: further options of Java, see ``class_archive``.

    Raises:
        Fatal: no Java, a path that H2 can't name, or a file that is not H2's.
    """
    database = data.registry / "registry"
    if ";" in str(database):
        raise Fatal(f"{data.path} has a ';', which ends a file name in a database URL: name another directory")
    _check_header(database.with_name(DATABASE_FILE))
    env = {
        **ENVIRONMENT,
        "APICURIO_STORAGE_KIND": "sql",
        "APICURIO_STORAGE_SQL_KIND": "h2",
        "APICURIO_DATASOURCE_URL": f"jdbc:h2:file:{database}",
        # The default opens 20 connections at start; each would be an idle H2 session.
        "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE": "1",
        "APICURIO_DATASOURCE_JDBC_MIN_SIZE": "1",
        "APICURIO_DATASOURCE_JDBC_MAX_SIZE": "10",
        "QUARKUS_HTTP_HOST": HOST,
        "QUARKUS_HTTP_PORT": str(port),
        # A second listener for metrics and health that can't be left out of this build: any port, loopback only.
        "QUARKUS_MANAGEMENT_HOST": HOST,
        "QUARKUS_MANAGEMENT_PORT": "0",
        "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",  # our health checks would be most of it
    }
    return ChildSpec(
        name="registry",
        argv=(java(), crash_file(data.logs, "registry"), *sharing, *JVM, *class_path(jars)),
        env=env,
        health=partial(probes.http_answers, HOST, port, f"{CONFLUENT_API}/config"),
        stop_order=20,
        stop_s_max=1.0,  # measured: 0.1 s
        silent_s_max=60.0,
        unhealthy_starts_max=3,
        error_marks=ERROR_MARKS,
        remedy=f"see {data.log('registry')}; schemas are registered anew when {data.registry} is deleted",
    )


def _check_header(database: Path) -> None:
    """Say at once what the registry, alive and waiting for its database, would never say."""
    if not database.exists():
        return
    with database.open("rb") as file:
        if file.read(len(DATABASE_MAGIC)) != DATABASE_MAGIC:
            raise Fatal(f"{database} is corrupt (no H2 file): delete it, schemas are registered anew at the next start")
