"""A new model is first loaded, and made to answer, in a process whose death costs nothing.

xgboost's loader crashes, hangs or quietly answers differently on damaged files. The signature keeps damaged files out;
this keeps out the ones that were signed all the same: built by a broken trainer, or for another release. The child is a
fresh interpreter, never a fork: a forked Kafka client owns sockets and no threads.

``python -m services.scoring.probation`` is that child: the bundle on standard input, one line of verdict on standard
output.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import orjson

from services.mesh.bundle import BundleRefused, Refusal
from services.mesh.bundle_parts import Bundle
from services.mesh.manifest import Manifest, canonical, parse

PART_LENGTH_BYTES = 8
VERDICT_BYTES_MAX = 64 * 1024
CHILD = ("-m", "services.scoring.probation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the child may take; a good bundle needs a few percent of it."""

    cpu_s_max: int = 20  # measured: 0.3 s, nearly all of it importing xgboost
    wall_s_max: float = 60.0  # a busy machine shares its cores; beyond this the child waits for something
    memory_bytes_max: int = 4 * 1024**3  # address space, of which the shared libraries map most and use little


class Probation:
    """One child, started by the constructor. `passed` never blocks, so that scoring goes on meanwhile."""

    def __init__(self, bundle: Bundle, manifest: Manifest, limits: Limits | None = None, *, niceness: int = 0) -> None:
        """``manifest`` is what `verify` returned for ``bundle``: only verified bytes are handed on."""
        self._version = manifest.model_version
        self._limits = limits or Limits()
        # Files, not pipes: neither side ever waits for the other, and the child's file size limit bounds its output.
        self._verdict = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close(), together with the child
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        with tempfile.TemporaryFile() as parts:
            _write_parts(parts, (canonical(manifest), bundle.model, bundle.fallback))
            parts.seek(0)
            self._child = subprocess.Popen(
                [sys.executable, *CHILD],
                stdin=parts,
                stdout=self._verdict,
                stderr=self._errors,
                env=_environment(self._limits),
                start_new_session=True,  # a Ctrl-C meant for the service is not one for its child
            )
        os.setpriority(os.PRIO_PROCESS, self._child.pid, os.getpriority(os.PRIO_PROCESS, 0) + niceness)
        self._deadline_s = time.monotonic() + self._limits.wall_s_max

    def passed(self) -> bool:
        """True once the child has vouched for the bundle, false while it is still at it. Raises `BundleRefused`."""
        status = self._child.poll()
        if status is None:
            if time.monotonic() < self._deadline_s:
                return False
            self.close()
            raise BundleRefused(
                Refusal.HUNG, f"{self._version}: no answer within {self._limits.wall_s_max} s on probation"
            )
        self._verdict.seek(0)
        verdict = self._verdict.read(VERDICT_BYTES_MAX)
        self._errors.seek(0)
        last_words = self._errors.read(VERDICT_BYTES_MAX).decode("utf-8", "replace").strip().splitlines()[-1:]
        self.close()
        if status == -_CPU_SIGNAL:
            raise BundleRefused(
                Refusal.HUNG, f"{self._version}: took over {self._limits.cpu_s_max} s of CPU on probation"
            )
        if status != 0:
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            words = f": {last_words[0]}" if last_words else ""
            raise BundleRefused(Refusal.CRASHED, f"{self._version}: died on probation, {how}{words}")
        _read_verdict(self._version, verdict)
        return True

    def close(self) -> None:
        """End the child if it still runs; release its files. Repeatable."""
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()
        self._verdict.close()
        self._errors.close()


def load_on_probation(bundle: Bundle, manifest: Manifest, limits: Limits | None = None) -> None:
    """Wait for a `Probation` of ``bundle``. Raises `BundleRefused` on crash, hang, refusal or wrong answers."""
    probation = Probation(bundle, manifest, limits)
    try:
        while not probation.passed():
            time.sleep(0.01)
    finally:
        probation.close()


_CPU_SIGNAL = 24  # SIGXCPU


def _environment(limits: Limits) -> dict[str, str]:
    """Only what the interpreter needs: no endpoint, no password of the service reaches the child."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    root = str(Path(__file__).resolve().parents[2])
    return kept | {
        "PYTHONPATH": root,
        "OMP_NUM_THREADS": "1",  # more threads mean more address space and nothing else here
        "OPENBLAS_NUM_THREADS": "1",
        "WEIR_PROBATION_CPU_S": str(limits.cpu_s_max),
        "WEIR_PROBATION_MEMORY_BYTES": str(limits.memory_bytes_max),
    }


def _write_parts(file: IO[bytes], parts: tuple[bytes, ...]) -> None:
    for part in parts:
        file.write(len(part).to_bytes(PART_LENGTH_BYTES, "little") + part)
    file.flush()


def _read_part(file: IO[bytes]) -> bytes:
    return file.read(int.from_bytes(file.read(PART_LENGTH_BYTES), "little"))


def _read_verdict(version: str, verdict: bytes) -> None:
    try:
        answer = orjson.loads(verdict.splitlines()[-1])
        refusal, message = answer["refusal"], answer["message"]
    except (IndexError, KeyError, TypeError, orjson.JSONDecodeError):
        raise BundleRefused(Refusal.CRASHED, f"{version}: ended on probation without a verdict") from None
    if refusal is not None:
        raise BundleRefused(Refusal(refusal), f"on probation: {message}")


def _limit() -> None:
    """Before anything of the bundle is touched; by the child itself, as a hook between fork and exec is unsafe."""
    cpu_s, memory_bytes = (int(os.environ[f"WEIR_PROBATION_{name}"]) for name in ("CPU_S", "MEMORY_BYTES"))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (VERDICT_BYTES_MAX, VERDICT_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _child() -> None:
    _limit()
    manifest = parse(_read_part(sys.stdin.buffer))
    model, fallback = _read_part(sys.stdin.buffer), _read_part(sys.stdin.buffer)
    # Imported here, under the limits: the parent may import this module without loading xgboost.
    from services.scoring.model import Scorer

    refusal: str | None = None
    message = ""
    try:
        Scorer(manifest, model, fallback)
    except BundleRefused as error:
        refusal, message = error.refusal.value, error.detail
    sys.stdout.buffer.write(orjson.dumps({"refusal": refusal, "message": message}) + b"\n")


if __name__ == "__main__":
    _child()
