"""What a Java server would do again at every start, kept: its classes, found in the jars, parsed and verified.

An archive (Java calls it class data sharing) for each server lies in the cache, beside the jars; `make setup` makes it
with ``class_archive_making``. It belongs to one Java, one set of jars and one set of options, which its name stands
for: for any other there is none. A start without one takes more processor time and is otherwise the same. So is a start
with a damaged one: Java checks the sums in it and then does without.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from services.platform import kafka_server, registry_server
from services.platform.jars import CLASSES, Jars
from services.platform.java import java_home

# Without the sums Java looks at the header alone, and dies of what is wrong behind it.
_CHECKED = ("-Xshare:auto", "-XX:+VerifySharedSpaces")


@dataclass(frozen=True, slots=True)
class Program:
    """One of the servers, as far as its classes depend on it."""

    options: tuple[str, ...]  # of Java
    class_path: tuple[str, ...]  # as Java takes it
    jars: Path  # where they lie


def programs(jars: Jars) -> Mapping[str, Program]:
    """Name -> server, those that have an archive."""
    return MappingProxyType(
        {
            "kafka": Program(kafka_server.JVM, kafka_server.class_path(jars), jars.kafka),
            "registry": Program(registry_server.JVM, registry_server.class_path(jars), jars.registry),
        }
    )


def archive(jars: Jars, name: str) -> Path:
    """Where the archive of the server ``name`` is, if it was made for this Java, these jars and these options."""
    return jars.kafka.parent / CLASSES / f"{name}-{_key(programs(jars)[name])}.jsa"


def sharing(jars: Jars, name: str) -> tuple[str, ...]:
    """What to tell Java so that it uses the archive of the server ``name``; nothing when there is none."""
    file = archive(jars, name)
    # For Java a ':' ends one file's name and begins another's.
    return (f"-XX:SharedArchiveFile={file}", *_CHECKED) if ":" not in str(file) and file.exists() else ()


def _key(program: Program) -> str:
    """Java compares the jars of its class path itself, but the registry loads most of its own."""
    home = java_home()
    told = [(home / "release").read_text(), *program.options, *program.class_path]
    for file in (home / "lib" / "modules", *sorted(program.jars.rglob("*.jar"))):
        found = file.stat()
        told.append(f"{file} {found.st_size} {found.st_mtime_ns}")
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
