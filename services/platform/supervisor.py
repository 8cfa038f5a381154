"""Keeps child processes alive, says what happens to them, and leaves none behind.

One thread calls ``poll`` again and again; it never blocks. Health checks run beside it, in threads of their own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

from services.mesh.errors import Fatal
from services.platform import logs, survivors
from services.platform.backoff import Backoff

LAUNCH = str(Path(__file__).with_name("launch.py"))
CONFIG_RESTARTS_MAX = 5  # a Fatal error rarely heals; one that waits for a file or a topic may
STOP_S_MAX = 9.5  # people are promised 10 s; the rest is for the supervisor's own end
CHECK_THREADS = 4  # a hanging check holds one for its time-out only
CHECK_EVERY_S_STARTING = 0.1
CHECK_EVERY_S_HEALTHY = 2.0
CAP_LOGS_EVERY_S = 30.0
EXIT_POLL_S = 0.01


class State(StrEnum):
    """Where a child stands."""

    WAITING = "waiting"  # for its first start, or out its backoff
    STARTING = "starting"  # runs, never answered yet
    HEALTHY = "healthy"
    SILENT = "silent"  # answered once, does not now
    DONE = "done"  # a ``once`` child that ended with status 0
    FAILED = "failed"  # given up
    STOPPED = "stopped"


RUNNING = frozenset({State.STARTING, State.HEALTHY, State.SILENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What to run and how to treat it."""

    name: str  # names its log; unique
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)  # on top of the supervisor's own
    health: Callable[[], bool] | None = None  # runs in a thread, must give up within 2 s; None: alive is healthy
    stop_order: int = 0  # lower stops first; equal ones stop together
    stop_s_max: float = 5.0  # from SIGTERM to SIGKILL
    silent_s_max: float | None = None  # healthy once, then silent for so long: killed and restarted; None: never
    config_restarts_max: int = CONFIG_RESTARTS_MAX  # give up when it says once more that its configuration is at fault
    unhealthy_starts_max: int | None = None  # give up after so many deaths without ever being healthy; None: never
    once: bool = False  # healthy when it has ended with status 0; any other status is a death
    error_marks: tuple[str, ...] = ()  # a log line with one of these says more than the last line
    remedy: str = ""  # what a person can do when it is given up


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildStatus:
    """A child as others see it."""

    name: str
    state: State
    pid: int | None
    restarts: int


class _Child:
    """One child's spec with what is happening to it."""

    def __init__(self, spec: ChildSpec, backoff: Backoff) -> None:
        self.spec = spec
        self.backoff = backoff
        self.state = State.WAITING
        self.process: subprocess.Popen[bytes] | None = None
        self.check: Future[bool] | None = None
        self.start_at_s = 0.0  # WAITING: when to start
        self.started_s = 0.0
        self.healthy_s: float | None = None  # since when; None: not since its last start
        self.answered_s = 0.0  # last good check
        self.check_at_s = 0.0
        self.starts = 0
        self.unhealthy_starts = 0
        self.failure = ""


class Supervisor:
    """Owns a set of children: ``add`` them, ``start``, ``poll`` until the end, ``stop``.

    ``on_event(name, what)`` is told of every start, death, restart and change of health, in words for people.
    Call everything from one thread that lasts as long as the supervisor: children die with the thread that spawned
    them (see ``launch``).
    """

    def __init__(
        self,
        logs_dir: Path,
        pid_file: Path,
        on_event: Callable[[str, str], None] | None = None,
        new_backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self._logs_dir = logs_dir
        self._pid_file = pid_file
        self._on_event = on_event or _tell_nobody
        self._new_backoff = new_backoff
        self._children: dict[str, _Child] = {}
        self._checks = ThreadPoolExecutor(CHECK_THREADS, thread_name_prefix="health")
        self._cap_logs_at_s = 0.0
        self._stopped = False

    def add(self, spec: ChildSpec) -> None:
        """Take a child on; it starts with ``start`` or the next ``poll``."""
        assert spec.name not in self._children, f"two children named {spec.name}"
        self._children[spec.name] = _Child(spec, self._new_backoff())

    def start(self) -> None:
        """End what an earlier supervisor left running, then start all children at once."""
        for name in survivors.reap(self._pid_file):
            self._on_event(name, "left over from an earlier run, killed")
        self.poll()

    def poll(self) -> None:
        """Notice deaths, start what is due, look after health.

        Raises:
            Fatal: a child is given up; it is named with the last words of its log.
        """
        now_s = time.monotonic()
        for child in self._children.values():
            if child.state in RUNNING:
                self._watch(child, now_s)
            if child.state is State.WAITING and now_s >= child.start_at_s and not self._stopped:
                self._spawn(child, now_s)
        if now_s >= self._cap_logs_at_s:
            self._cap_logs_at_s = now_s + CAP_LOGS_EVERY_S
            for name in self._children:
                logs.cap(self._log(name))
        for child in self._children.values():
            if child.state is State.FAILED:
                raise Fatal(child.failure)

    def healthy(self, names: Sequence[str] | None = None) -> bool:
        """All of ``names`` (default: all children) answer their checks, or have done their work."""
        wanted = self._children if names is None else names
        return all(self._children[name].state in (State.HEALTHY, State.DONE) for name in wanted)

    def wait_healthy(self, names: Sequence[str] | None = None, limit_s: float = 60.0) -> None:
        """Poll until ``healthy(names)``.

        Raises:
            Fatal: it took longer than ``limit_s``, or a child is given up.
        """
        end_s = time.monotonic() + limit_s
        while not self.healthy(names):
            if time.monotonic() > end_s:
                late = next(n for n in names or self._children if not self.healthy([n]))
                raise Fatal(f"{late} is not healthy after {limit_s:.0f} s: {self._why(self._children[late])}")
            time.sleep(0.02)
            self.poll()

    def status(self) -> list[ChildStatus]:
        """Return every child's state in the order of ``add``."""
        return [
            ChildStatus(name=name, state=c.state, pid=_pid(c), restarts=max(0, c.starts - 1))
            for name, c in self._children.items()
        ]

    def pid(self, name: str) -> int | None:
        """Return the process id of a running child, else None."""
        return _pid(self._children[name])

    def stop_child(self, name: str) -> None:
        """Stop one child within its own limit and keep it stopped until ``restart``."""
        self.stop_children([name])

    def stop_children(self, names: Sequence[str], limit_s: float = STOP_S_MAX) -> None:
        """Stop some children together, within their own limits and ``limit_s``, and keep them stopped."""
        group = [self._children[name] for name in names]
        limits_s = [child.spec.stop_s_max for child in group]
        self._stop_together(group, time.monotonic() + min(limit_s, max(limits_s, default=0.0)))

    def restart(self, name: str) -> None:
        """Stop one child within its own limit and start it at once: a deploy, not a death."""
        self.stop_child(name)
        child = self._children[name]
        child.backoff = self._new_backoff()
        child.state, child.start_at_s = State.WAITING, 0.0
        self.poll()

    def stop(self, deadline_s: float = STOP_S_MAX) -> None:
        """Stop everything, lowest ``stop_order`` first; what does not end in time is killed. May be called twice.

        A group gets its own limit, or its fair share of what is left of ``deadline_s`` where that is too short for all.
        """
        self._stopped = True
        end_s = time.monotonic() + deadline_s
        ordered = sorted(self._children.values(), key=lambda child: child.spec.stop_order)
        groups = [list(group) for _, group in groupby(ordered, key=lambda child: child.spec.stop_order)]
        limits_s = [max((c.spec.stop_s_max for c in group if c.state in RUNNING), default=0.0) for group in groups]
        for index, group in enumerate(groups):
            now_s = time.monotonic()
            self._stop_together(group, now_s + fair_shares(limits_s[index:], end_s - now_s)[0])
        self._checks.shutdown(wait=False, cancel_futures=True)
        self._pid_file.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    # ---- starting

    def _spawn(self, child: _Child, now_s: float) -> None:
        spec = child.spec
        log = self._log(spec.name)
        logs.rotate(log)
        with log.open("ab") as output:
            child.process = subprocess.Popen(
                [sys.executable, "-I", "-S", LAUNCH, str(os.getpid()), *spec.argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **spec.env},
                start_new_session=True,  # the terminal's Ctrl-C is ours alone to pass on
            )
        child.state = State.STARTING
        child.started_s, child.check_at_s = now_s, now_s
        child.healthy_s, child.check = None, None
        child.starts += 1
        self._record_pids()
        self._on_event(spec.name, f"{'started' if child.starts == 1 else 'restarted'} as process {child.process.pid}")

    # ---- watching

    def _watch(self, child: _Child, now_s: float) -> None:
        if _has_exited(child):
            self._bury(child, now_s)
        elif child.spec.health is None:
            if not child.spec.once:
                self._answered(child, now_s)
        elif child.check is None:
            if now_s >= child.check_at_s:
                child.check = self._checks.submit(_check, child.spec.health)
        elif child.check.done():
            check, child.check = child.check, None
            child.check_at_s = now_s + (
                CHECK_EVERY_S_HEALTHY if child.state is State.HEALTHY else CHECK_EVERY_S_STARTING
            )
            if check.result():
                self._answered(child, now_s)
            else:
                self._kept_silent(child, now_s)

    def _answered(self, child: _Child, now_s: float) -> None:
        child.answered_s = now_s
        if child.state is State.STARTING:
            child.healthy_s, child.unhealthy_starts = now_s, 0
            self._on_event(child.spec.name, f"healthy after {now_s - child.started_s:.1f} s")
        elif child.state is State.SILENT:
            self._on_event(child.spec.name, "answers again")
        child.state = State.HEALTHY

    def _kept_silent(self, child: _Child, now_s: float) -> None:
        if child.state is State.HEALTHY:
            child.state = State.SILENT
            self._on_event(child.spec.name, "does not answer")
        limit_s = child.spec.silent_s_max
        if child.state is State.SILENT and limit_s is not None and now_s - child.answered_s > limit_s:
            self._on_event(child.spec.name, f"killed: no answer for {limit_s:.0f} s")
            _signal_session(child, signal.SIGKILL)  # its death is noticed by the next poll

    def _bury(self, child: _Child, now_s: float) -> None:
        status = _reap(child)
        self._record_pids()
        if status == 0 and child.spec.once:
            child.state = State.DONE
            self._on_event(child.spec.name, "done")
            return
        is_config_error = status == os.EX_CONFIG
        healthy_s = 0.0 if child.healthy_s is None else now_s - child.healthy_s
        child.unhealthy_starts += child.healthy_s is None
        delay_s = child.backoff.delay_s(healthy_s, config_error=is_config_error)
        starts_max = child.spec.unhealthy_starts_max
        if child.backoff.config_deaths > child.spec.config_restarts_max or (
            starts_max is not None and child.unhealthy_starts >= starts_max
        ):
            child.state = State.FAILED
            child.failure = f"{child.spec.name} failed: {self._why(child)}"
            self._on_event(child.spec.name, child.failure)
        else:
            child.state, child.start_at_s = State.WAITING, now_s + delay_s
            self._on_event(child.spec.name, f"died ({_cause_of_death(status)}), restart in {delay_s:.1f} s")

    # ---- stopping

    def _stop_together(self, group: Sequence[_Child], end_s: float) -> None:
        running = [child for child in group if child.state in RUNNING]
        began_s = time.monotonic()
        for child in running:
            assert child.process is not None
            with suppress(ProcessLookupError):
                os.kill(child.process.pid, signal.SIGTERM)  # to it alone: it drains its own children
        waiting = list(running)
        while waiting and time.monotonic() < end_s:
            time.sleep(EXIT_POLL_S)
            waiting = [child for child in waiting if not _has_exited(child)]
        for child in running:
            was_late = child in waiting
            _reap(child)
            passed_s = time.monotonic() - began_s
            self._on_event(child.spec.name, f"killed after {passed_s:.1f} s" if was_late else "stopped")
        for child in group:
            if child.state is not State.DONE:
                child.state = State.STOPPED
        if running:
            self._record_pids()

    # ---- small things

    def _log(self, name: str) -> Path:
        return self._logs_dir / f"{name}.log"

    def _why(self, child: _Child) -> str:
        words = logs.last_words(self._log(child.spec.name), child.spec.error_marks)
        return f"{words}; {child.spec.remedy}" if child.spec.remedy else words

    def _record_pids(self) -> None:
        pids = {name: pid for name, child in self._children.items() if (pid := _pid(child)) is not None}
        survivors.record(self._pid_file, pids)


def fair_shares(wishes: Sequence[float], total: float) -> list[float]:
    """Divide ``total`` so that small wishes are met in full and large ones get equal parts of the rest (max-min)."""
    shares = [0.0] * len(wishes)
    left = max(total, 0.0)
    for rank, index in enumerate(sorted(range(len(wishes)), key=wishes.__getitem__)):
        shares[index] = min(wishes[index], left / (len(wishes) - rank))
        left -= shares[index]
    return shares


def _tell_nobody(name: str, what: str) -> None:
    del name, what


def _pid(child: _Child) -> int | None:
    return None if child.process is None or child.process.returncode is not None else child.process.pid


def _check(health: Callable[[], bool]) -> bool:
    try:
        return health()
    except OSError:  # nobody listens yet, or no answer in time
        return False


def _has_exited(child: _Child) -> bool:
    """See whether it ended, and leave it unreaped: its pid keeps naming its session until that is swept."""
    assert child.process is not None
    return os.waitid(os.P_PID, child.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_session(child: _Child, number: signal.Signals) -> None:
    assert child.process is not None
    with suppress(ProcessLookupError, PermissionError):  # macOS refuses a group of zombies
        os.killpg(child.process.pid, number)


def _reap(child: _Child) -> int:
    """Kill what is left of the child and its session; return its exit status (negative: the signal)."""
    assert child.process is not None
    _signal_session(child, signal.SIGKILL)
    return child.process.wait()


def _cause_of_death(status: int) -> str:
    return f"status {status}" if status >= 0 else signal.Signals(-status).name
