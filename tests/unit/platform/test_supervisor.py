"""The supervisor, on real and very small child processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from services.mesh.errors import Fatal
from services.platform import survivors
from services.platform.backoff import Backoff
from services.platform.supervisor import CONFIG_RESTARTS_MAX, ChildSpec, State, Supervisor, fair_shares

Events = list[tuple[str, str]]
SLEEP = ("sleep", "60")


@pytest.fixture
def events() -> Events:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, events: Events) -> Iterator[Supervisor]:
    def told(name: str, what: str) -> None:
        events.append((name, what))

    with Supervisor(tmp_path, tmp_path / "pids.json", told, lambda: Backoff(0.01, 0.05)) as supervisor:
        yield supervisor


def poll_until(supervisor: Supervisor, holds: Callable[[], bool], limit_s: float = 20.0) -> None:
    end_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end_s, supervisor.status()
        supervisor.poll()
        time.sleep(0.005)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", code)


def kill(supervisor: Supervisor, name: str) -> int:
    """Kill a child and wait until the system knows it is dead."""
    pid = supervisor.pid(name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def read_pid(path: Path) -> int:
    """Wait for a process to write its pid."""
    end_s = time.monotonic() + 20
    while time.monotonic() < end_s:
        with suppress(FileNotFoundError, ValueError):
            return int(path.read_text())
        time.sleep(0.01)
    raise AssertionError(f"nobody wrote {path}")


# ---- starting


def test_a_child_gets_its_environment_and_writes_its_log(supervisor: Supervisor, tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['COLOUR']); print('oh', file=sys.stderr)"
    supervisor.add(ChildSpec(name="a", argv=python(code), env={"COLOUR": "blue"}, once=True))
    supervisor.start()
    poll_until(supervisor, supervisor.healthy)
    assert sorted((tmp_path / "a.log").read_text().split()) == ["blue", "oh"]


def test_a_child_has_a_session_of_its_own_and_no_blocked_signals(supervisor: Supervisor, tmp_path: Path) -> None:
    code = "import os, signal; print(os.getsid(0) == os.getpid(), len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        supervisor.add(ChildSpec(name="a", argv=python(code), once=True))
        supervisor.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    poll_until(supervisor, supervisor.healthy)
    assert (tmp_path / "a.log").read_text() == "True 0\n"


def test_children_added_later_start_with_the_next_poll(supervisor: Supervisor) -> None:
    supervisor.start()
    supervisor.add(ChildSpec(name="late", argv=SLEEP))
    assert supervisor.pid("late") is None
    supervisor.poll()
    assert supervisor.pid("late") is not None


# ---- health


def test_a_child_is_healthy_when_its_check_says_so(supervisor: Supervisor, events: Events) -> None:
    answers = threading.Event()

    def health() -> bool:
        if not answers.is_set():
            raise ConnectionRefusedError
        return True

    supervisor.add(ChildSpec(name="a", argv=SLEEP, health=health))
    supervisor.start()
    time.sleep(0.05)
    supervisor.poll()
    assert not supervisor.healthy()
    answers.set()
    supervisor.wait_healthy(limit_s=10)
    assert [what.split()[0] for _, what in events] == ["started", "healthy"]


def test_a_hanging_check_does_not_hold_up_the_others(supervisor: Supervisor, events: Events) -> None:
    release = threading.Event()
    supervisor.add(ChildSpec(name="hangs", argv=SLEEP, health=lambda: release.wait(20)))
    supervisor.add(ChildSpec(name="lives", argv=SLEEP))
    supervisor.start()
    for _ in range(10):
        before_s = time.monotonic()
        supervisor.poll()
        assert time.monotonic() - before_s < 1.0
    assert supervisor.healthy(["lives"])
    assert not supervisor.healthy()
    release.set()


def test_a_child_that_stays_silent_is_killed_and_restarted(supervisor: Supervisor, events: Events) -> None:
    alive = threading.Event()
    alive.set()
    supervisor.add(ChildSpec(name="a", argv=SLEEP, health=alive.is_set, silent_s_max=0.2))
    supervisor.start()
    supervisor.wait_healthy(limit_s=10)
    first = supervisor.pid("a")
    alive.clear()
    poll_until(supervisor, lambda: ("a", "killed: no answer for 0 s") in events)
    alive.set()
    poll_until(supervisor, lambda: supervisor.healthy() and supervisor.pid("a") != first)
    assert ("a", "does not answer") in events
    assert ("a", "died (SIGKILL), restart in 0.0 s") in events


def test_waiting_for_health_ends_with_the_log(supervisor: Supervisor) -> None:
    code = "import time; print('still loading', flush=True); time.sleep(60)"
    supervisor.add(ChildSpec(name="slow", argv=python(code), health=lambda: False))
    supervisor.start()
    with pytest.raises(Fatal, match="slow is not healthy after 1 s: still loading"):
        supervisor.wait_healthy(limit_s=1.0)


# ---- deaths


def test_a_dead_child_is_restarted_and_said_so(supervisor: Supervisor, events: Events) -> None:
    supervisor.add(ChildSpec(name="a", argv=SLEEP))
    supervisor.add(ChildSpec(name="b", argv=SLEEP))
    supervisor.start()
    unharmed = supervisor.pid("b")
    first = kill(supervisor, "a")
    poll_until(supervisor, lambda: supervisor.pid("a") not in (None, first))
    assert ("a", "died (SIGKILL), restart in 0.0 s") in events
    assert ("a", f"restarted as process {supervisor.pid('a')}") in events
    assert supervisor.pid("b") == unharmed
    assert [child.restarts for child in supervisor.status()] == [1, 0]


def test_restarts_back_off(tmp_path: Path, events: Events) -> None:
    with Supervisor(
        tmp_path, tmp_path / "pids.json", lambda name, what: events.append((name, what)), lambda: Backoff(0.1, 0.2)
    ) as supervisor:
        supervisor.add(ChildSpec(name="a", argv=("false",)))
        supervisor.start()
        died = "died (status 1), restart in"
        poll_until(supervisor, lambda: len([what for _, what in events if what.startswith(died)]) == 3)
        waits = [what.removeprefix(died) for _, what in events if what.startswith(died)]
        assert waits == [" 0.1 s", " 0.2 s", " 0.2 s"]
        before_s = time.monotonic()
        poll_until(supervisor, lambda: supervisor.status()[0].restarts == 3)
        assert time.monotonic() - before_s > 0.15


def test_a_fatal_error_is_tried_five_more_times_and_then_reported(supervisor: Supervisor, events: Events) -> None:
    code = "import sys; print('weir: policy 7 is unsigned: sign it'); sys.exit(78)"
    supervisor.add(ChildSpec(name="decisions", argv=python(code)))
    supervisor.start()
    with pytest.raises(Fatal, match=r"^decisions failed: weir: policy 7 is unsigned: sign it$"):
        poll_until(supervisor, lambda: False)
    (child,) = supervisor.status()
    assert (child.state, child.restarts) == (State.FAILED, CONFIG_RESTARTS_MAX)
    assert len([what for _, what in events if "restart in" in what]) == CONFIG_RESTARTS_MAX
    with pytest.raises(Fatal, match="decisions failed"):  # it stays failed
        supervisor.poll()


def test_a_fatal_error_that_cannot_heal_is_reported_at_once(supervisor: Supervisor, events: Events) -> None:
    code = "import sys; print('payments.csv:7: not sorted'); sys.exit(78)"
    supervisor.add(ChildSpec(name="simulator", argv=python(code), once=True, config_restarts_max=0))
    supervisor.start()
    with pytest.raises(Fatal, match=r"^simulator failed: payments.csv:7: not sorted$"):
        poll_until(supervisor, lambda: False)
    assert not [what for _, what in events if "restart in" in what]


def test_a_server_that_never_comes_up_is_given_up_with_its_error(supervisor: Supervisor) -> None:
    code = "print('10:00 ERROR the log is corrupt'); print('shut down completed'); raise SystemExit(1)"
    spec = ChildSpec(
        name="kafka",
        argv=python(code),
        health=lambda: False,
        unhealthy_starts_max=3,
        error_marks=(" ERROR ",),
        remedy="see x",
    )
    supervisor.add(spec)
    supervisor.start()
    with pytest.raises(Fatal, match=r"^kafka failed: 10:00 ERROR the log is corrupt; see x$"):
        poll_until(supervisor, lambda: False)
    assert supervisor.status()[0].restarts == 2


def test_a_program_that_is_not_there_is_reported(supervisor: Supervisor) -> None:
    supervisor.add(ChildSpec(name="a", argv=("no-such-program-weir",)))
    supervisor.start()
    with pytest.raises(Fatal, match="a failed: cannot start no-such-program-weir: No such file or directory"):
        poll_until(supervisor, lambda: False)


def test_work_done_once_is_not_started_again(supervisor: Supervisor, events: Events) -> None:
    supervisor.add(ChildSpec(name="train", argv=("true",), once=True))
    supervisor.start()
    poll_until(supervisor, supervisor.healthy)
    for _ in range(5):
        supervisor.poll()
    assert [what.split()[0] for _, what in events] == ["started", "done"]


def test_a_dead_childs_own_children_die_before_it_is_restarted(supervisor: Supervisor, tmp_path: Path) -> None:
    code = f"import subprocess, time; p = subprocess.Popen(['sleep', '60']); open({str(tmp_path / 'pid')!r}, 'w')"
    code += ".write(str(p.pid)); time.sleep(60)"
    supervisor.add(ChildSpec(name="a", argv=python(code)))
    supervisor.start()
    grandchild = read_pid(tmp_path / "pid")
    assert is_running(grandchild)
    kill(supervisor, "a")
    supervisor.poll()
    psutil.wait_procs([psutil.Process(grandchild)] if psutil.pid_exists(grandchild) else [], timeout=5)
    assert not is_running(grandchild)


# ---- restart, stop


def test_restart_is_a_deploy_and_not_a_death(supervisor: Supervisor, events: Events) -> None:
    supervisor.add(ChildSpec(name="a", argv=SLEEP))
    supervisor.start()
    first = supervisor.pid("a")
    supervisor.restart("a")
    assert supervisor.pid("a") not in (None, first)
    assert [what.split()[0] for _, what in events if "process" in what or what == "stopped"] == [
        "started",
        "stopped",
        "restarted",
    ]


def test_a_stopped_child_stays_stopped(supervisor: Supervisor) -> None:
    supervisor.add(ChildSpec(name="a", argv=SLEEP))
    supervisor.start()
    supervisor.stop_child("a")
    supervisor.poll()
    assert supervisor.status()[0].state is State.STOPPED
    assert supervisor.pid("a") is None
    supervisor.restart("a")
    assert supervisor.pid("a") is not None


def test_stop_goes_by_order_and_groups_stop_together(supervisor: Supervisor, events: Events) -> None:
    for name, order in (("kafka", 40), ("scoring", 0), ("redis", 30), ("features", 0)):
        supervisor.add(ChildSpec(name=name, argv=SLEEP, stop_order=order))
    supervisor.start()
    pids = [supervisor.pid(child.name) for child in supervisor.status()]
    supervisor.stop()
    assert [name for name, what in events if what == "stopped"] == ["scoring", "features", "redis", "kafka"]
    assert not [pid for pid in pids if pid is None or is_running(pid)]
    supervisor.stop()  # twice does no harm
    supervisor.poll()
    assert all(child.state is State.STOPPED for child in supervisor.status())


def test_what_ignores_sigterm_is_killed_and_leaves_time_for_the_rest(
    supervisor: Supervisor, events: Events, tmp_path: Path
) -> None:
    drained = tmp_path / "drained"
    ready = "; open(sys.argv[1], 'w').write('1'); time.sleep(60)"
    deaf = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + ready
    draining = "import signal, sys, time\ndef drain(*_): time.sleep(0.3); open(sys.argv[2], 'w'); sys.exit()\n"
    draining += "signal.signal(signal.SIGTERM, drain)" + ready
    supervisor.add(ChildSpec(name="deaf", argv=(*python(deaf), str(tmp_path / "deaf")), stop_s_max=60))
    argv = (*python(draining), str(tmp_path / "able"), str(drained))
    supervisor.add(ChildSpec(name="kafka", argv=argv, stop_order=40, stop_s_max=20))
    supervisor.start()
    read_pid(tmp_path / "deaf")
    read_pid(tmp_path / "able")
    before_s = time.monotonic()
    supervisor.stop(deadline_s=2.0)
    assert time.monotonic() - before_s < 2.0
    assert [(name, what.split()[0]) for name, what in events][-2:] == [("deaf", "killed"), ("kafka", "stopped")]
    assert drained.exists()


@pytest.mark.parametrize(
    ("wishes", "total", "shares"),
    [
        ([5.5, 1.0, 1.0, 2.5], 9.5, [5.0, 1.0, 1.0, 2.5]),
        ([1.0, 2.0], 9.5, [1.0, 2.0]),
        ([60.0, 20.0], 2.0, [1.0, 1.0]),
        ([3.0], -1.0, [0.0]),
    ],
)
def test_short_limits_are_kept_and_long_ones_share(wishes: list[float], total: float, shares: list[float]) -> None:
    assert fair_shares(wishes, total) == shares


# ---- nothing is left behind

KILLED = """
import sys, time
from pathlib import Path
from services.platform.supervisor import ChildSpec, Supervisor
directory = Path(sys.argv[1])
supervisor = Supervisor(directory, directory / "pids.json")
child = "import os, subprocess, sys, time; p = subprocess.Popen(['sleep', '60'], start_new_session=False);"
child += "open(sys.argv[1], 'w').write(str(p.pid)); time.sleep(60)"
supervisor.add(ChildSpec(name="plain", argv=("sleep", "60")))
supervisor.add(ChildSpec(name="parent", argv=(sys.executable, "-I", "-S", "-c", child, str(directory / "grandchild"))))
supervisor.start()
print(supervisor.pid("plain"), supervisor.pid("parent"), flush=True)
time.sleep(60)
"""


def test_children_of_a_killed_supervisor_die_and_the_next_start_reaps_the_rest(
    supervisor: Supervisor, events: Events, tmp_path: Path
) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        plain, parent = map(int, killed.stdout.readline().split())
        grandchild = read_pid(tmp_path / "grandchild")
        assert all(map(is_running, (plain, parent, grandchild)))
        killed.kill()
    end_s = time.monotonic() + 5
    while any(map(is_running, (plain, parent))) and sys.platform == "linux":
        assert time.monotonic() < end_s
        time.sleep(0.01)
    assert is_running(grandchild)  # the kernel's signal goes to direct children only
    supervisor.start()
    assert not is_running(grandchild)
    assert events == [("parent", "left over from an earlier run, killed")]


def test_a_pid_with_a_new_owner_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(SLEEP, start_new_session=True) as bystander:
        (tmp_path / "pids.json").write_text(json.dumps([{"name": "a", "pid": bystander.pid, "started": 1.0}]))
        assert survivors.reap(tmp_path / "pids.json") == []
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"name": "a"}]', "null"])
def test_a_torn_pid_file_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "pids.json").write_text(text)
    assert survivors.reap(tmp_path / "pids.json") == []
    assert not (tmp_path / "pids.json").exists()
