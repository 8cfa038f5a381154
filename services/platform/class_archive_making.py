"""Makes the archives of the servers' classes (``class_archive``), for `make setup`; nothing where they are.

    python -m services.platform.class_archive_making

The servers are started in a directory that is thrown away and given topics and schemas, as for a new mesh, and write
down the classes that they load; then Java reads those and writes an archive for each. What fails is said in one line
and is no failure: starts go without.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.mesh.errors import Fatal
from services.mesh.topics import DATA_PARTITIONS_DEFAULT
from services.platform.class_archive import Program, archive, programs
from services.platform.deploy import deploy
from services.platform.jars import CLASSES, Jars, cache_dir, ensure
from services.platform.java import ENVIRONMENT, java
from services.platform.servers import running

STAMP = "stamp"  # for make, written last
OTHERS_MAX = 3  # of a server: checkouts may share a cache
DUMP_S_MAX = 120.0
_NUMBER = re.compile(r" id: \d+")


def make(jars: Jars) -> None:
    """Make the archives that are missing, and remove the oldest, of other jars and of another Java.

    Raises:
        Fatal: the servers did not start, or Java could not write an archive.
        OSError: nor could we.
    """
    wanted = {name: archive(jars, name) for name in programs(jars)}
    directory = jars.kafka.parent / CLASSES
    directory.mkdir(exist_ok=True)
    if not all(file.exists() for file in wanted.values()):
        with tempfile.TemporaryDirectory(prefix=".", dir=directory) as draft:
            _record(jars, Path(draft))
            with ThreadPoolExecutor(len(wanted)) as side_by_side:
                made = {name: side_by_side.submit(_dump, jars, name, Path(draft)) for name in wanted}
            for name, file in wanted.items():
                os.replace(made[name].result(), file)
    for name, file in wanted.items():
        others = sorted(set(directory.glob(f"{name}-*.jsa")) - {file}, key=lambda other: other.stat().st_mtime)
        for old in others[:-OTHERS_MAX]:
            old.unlink()
    (directory / STAMP).touch()


def class_list(recorded: Iterable[str]) -> str:
    """One list from those of several runs, each class once.

    Numbers say which class is meant where two of one name come from different files; one run's mean nothing in another,
    and are left to those lines that need them.
    """
    needed = [line for text in recorded for line in text.splitlines() if not line.startswith("#")]
    if any(" source: " in line for line in needed):
        return "\n".join(needed) + "\n"
    return "\n".join(dict.fromkeys(_NUMBER.sub("", line) for line in needed)) + "\n"


def dump_argv(program: Program, classes: Path, file: Path) -> list[str]:
    """The command line that writes the archive ``file`` of the listed classes."""
    writes = ("-Xshare:dump", f"-XX:SharedClassListFile={classes}", f"-XX:SharedArchiveFile={file}")
    return [java(), *program.options, *writes, *program.class_path]


def _record(jars: Jars, draft: Path) -> None:
    def recording(jars: Jars, name: str) -> tuple[str, ...]:
        del jars
        return (
            f"-XX:DumpLoadedClassList={draft / name}.%p.recorded",
        )  # %p: one for the broker, one for its formatting

    environ = {"WEIR_CACHE": str(jars.kafka.parent)}
    with running(draft / "data", environ=environ, sharing=recording) as servers:
        deploy(servers.endpoints.kafka, servers.endpoints.schema_registry, DATA_PARTITIONS_DEFAULT)


def _dump(jars: Jars, name: str, draft: Path) -> Path:
    classes, file = draft / f"{name}.classes", draft / f"{name}.jsa"
    classes.write_text(class_list(found.read_text() for found in sorted(draft.glob(f"{name}.*.recorded"))))
    ran = subprocess.run(
        dump_argv(programs(jars)[name], classes, file),
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DUMP_S_MAX,
    )
    if ran.returncode != 0 or not file.exists():
        raise Fatal(f"Java wrote no archive for {name}: {(ran.stderr or ran.stdout).strip()[-200:]}")
    return file


def main() -> int:
    """Make them; the exit status, which is 0 without them too."""
    try:
        make(ensure(cache_dir(os.environ)))
    except (Fatal, OSError, subprocess.TimeoutExpired) as error:
        print(f"weir: no archives of the servers' classes, which start slower without: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
