"""What comes through Maven: jars of the broker and the registry, and the console's charts; checked against
``jars.sha256``, kept in a cache.

``python -m services.platform.jars`` does it; ``--pin`` writes ``jars.sha256`` anew after a version was changed.
Where Maven fetches from is Maven's own configuration; nothing here names a host.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.mesh.errors import Fatal

HERE = Path(__file__).parent
SUMS_FILE = HERE / "jars.sha256"
KINDS = ("kafka", "registry", "serde", "chart")  # one <kind>.pom.xml each
UNPACKED = ("registry", "chart")  # kept as what was in their archive, which was checked
STAMP = "stamp"  # written last: what is unpacked is whole
CLASSES = "classes"  # beside the kinds; made of their jars, see ``class_archive``
CHART_FILE = "chart.umd.js"
_CHART_MEMBERS = (f"dist/{CHART_FILE}", "LICENSE.md")
FETCH_S_MAX = 600


@dataclass(frozen=True, slots=True)
class Jars:
    """Directories that hold what the platform runs."""

    kafka: Path  # jars of the broker and of Kafka's command-line tools
    registry: Path  # the unpacked registry; start quarkus-run.jar
    serde: Path  # jars with which Kafka's tools decode Avro, beside those of ``kafka``
    chart: Path  # Chart.js in one file, CHART_FILE, and its licence


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Return where jars are kept: ``WEIR_CACHE``, else ``.cache/jars`` in the checkout, else the user's cache."""
    if demanded := environ.get("WEIR_CACHE"):
        return Path(demanded).absolute()
    checkout = HERE.parent.parent
    return checkout / ".cache/jars" if (checkout / "pyproject.toml").exists() else Path.home() / ".cache/weir/jars"


def ensure(cache: Path) -> Jars:
    """Return the jars, fetching those that are not there yet.

    Raises:
        Fatal: no Maven, Maven failed, or a file is not the one that was pinned.
    """
    sums = read_sums(SUMS_FILE)
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two platforms starting at once fetch once
        for kind in KINDS:
            stamp = _stamp(kind)
            if not _has_stamp(cache / kind, stamp):
                _fetch(kind, cache, sums)
                shutil.rmtree(cache / CLASSES, ignore_errors=True)
                (cache / kind / STAMP).write_text(stamp)
            elif kind not in UNPACKED:
                verify(cache / kind, kind, sums)
        (cache / STAMP).touch()  # for make
    return Jars(**{kind: cache / kind for kind in KINDS})


def read_sums(path: Path) -> dict[str, str]:
    """Read lines of ``<sha256>  <kind>/<file name>`` into file -> sha256."""
    sums = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise Fatal(f"{path}:{number}: {line[:60]!r} is not '<sha256>  <file>': restore the file from git")
        sums[name] = digest
    return sums


def verify(directory: Path, kind: str, sums: Mapping[str, str]) -> None:
    """Check every file of ``directory`` against ``sums``, both ways.

    Raises:
        Fatal: names the first file that is altered, unknown or missing.
    """
    remedy = f"delete {directory} and run `make setup`; if it stays, do not trust what Maven brings"
    found = {f"{kind}/{path.name}": path for path in sorted(directory.iterdir()) if path.name != STAMP}
    for name, path in found.items():
        if name not in sums:
            raise Fatal(f"{path} is not in jars.sha256: {remedy}")
        digest = _sha256(path)
        if digest != sums[name]:
            raise Fatal(f"{path} has sha256 {digest[:16]}..., pinned is {sums[name][:16]}...: {remedy}")
    for name in sums:
        if name.startswith(f"{kind}/") and name not in found:
            raise Fatal(f"{directory / name.removeprefix(kind + '/')} is missing: {remedy}")


def _fetch(kind: str, cache: Path, sums: Mapping[str, str]) -> None:
    draft, final = cache / f".{kind}", cache / kind
    for leftover in (draft, final):
        shutil.rmtree(leftover, ignore_errors=True)
    _copy_by_maven(kind, draft)
    verify(draft, kind, sums)
    if kind in UNPACKED:
        (archive,) = draft.iterdir()
        _unpack(kind, archive, draft)
        archive.unlink()
    os.replace(draft, final)


def _unpack(kind: str, archive: Path, directory: Path) -> None:
    if kind == "registry":
        with tarfile.open(archive) as tar:
            tar.extractall(directory, filter="data")
        return
    with zipfile.ZipFile(archive) as jar:
        for member in _CHART_MEMBERS:
            (name,) = (found for found in jar.namelist() if found.endswith(f"/{member}"))
            (directory / Path(member).name).write_bytes(jar.read(name))


def _copy_by_maven(kind: str, directory: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Fatal("no Maven: `mvn` is not on PATH; install Maven 3.6 or newer and run `make setup` again")
    directory.mkdir(parents=True)
    argv = [maven, "-q", "-B", "-f", str(HERE / f"{kind}.pom.xml"), "dependency:copy-dependencies"]
    argv += ["-DincludeScope=runtime", f"-DoutputDirectory={directory}"]
    try:
        run = subprocess.run(argv, capture_output=True, text=True, timeout=FETCH_S_MAX, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise Fatal(f"Maven took over {FETCH_S_MAX} s for {kind}.pom.xml: look at its network and settings") from None
    if run.returncode != 0:
        errors = [line for line in (run.stdout + run.stderr).splitlines() if "ERROR" in line] or ["no reason given"]
        raise Fatal(f"Maven failed on {kind}.pom.xml: {errors[0].strip()[:300]}")


def _stamp(kind: str) -> str:
    """Return what a fetched directory was made from."""
    own = [line for line in SUMS_FILE.read_text().splitlines() if f"  {kind}/" in line]
    return hashlib.sha256((HERE / f"{kind}.pom.xml").read_bytes() + "\n".join(own).encode()).hexdigest()


def _has_stamp(directory: Path, stamp: str) -> bool:
    try:
        return (directory / STAMP).read_text() == stamp
    except FileNotFoundError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pin(cache: Path) -> None:
    """Fetch everything anew and write ``jars.sha256`` from it: a decision of a person, looked at in the diff."""
    lines = []
    for kind in KINDS:
        draft = cache / f".{kind}"
        shutil.rmtree(draft, ignore_errors=True)
        _copy_by_maven(kind, draft)
        lines += [f"{_sha256(path)}  {kind}/{path.name}" for path in sorted(draft.iterdir())]
        shutil.rmtree(draft)
    SUMS_FILE.write_text("\n".join(lines) + "\n")


def main() -> int:
    """Fetch what is missing and check the rest; return the exit status."""
    try:
        cache = cache_dir(os.environ)
        if "--pin" in sys.argv[1:]:
            _pin(cache)
        ensure(cache)
    except Fatal as error:
        print(f"weir: {error}", file=sys.stderr)
        return os.EX_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
