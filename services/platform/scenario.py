"""``weir up --scenario drift``: one shift, three worlds, the same payments; what each was worth week by week.

    frozen   the first model for ever
    weekly   trained anew each week, on labels that come a week late
    loop     the whole loop: analysts, drift alerts, training by schedule and by harm, promotion by test

Every run is a mesh of its own: broker, registry, Redis, every service as a process, as ``weir up`` starts them. A seed
takes two of them. The frozen world is the weekly one's: the same payments, features and labels, scored by the first
model, whose score each decision carries or follows from its recorded vector (the two are compared). Nobody in a run
sees the truth; it is taken from the simulator when all is over.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console

from services.mesh.errors import Fatal
from services.mesh.topology import DRIFT as DRIFT_SERVICE
from services.mesh.topology import RETRAINING
from services.platform.files import write_atomically
from services.platform.interrupt import Interrupt
from services.platform.parent import Parent
from services.platform.scenario_plan import (
    DAYS,
    LABEL_DELAY,
    PARTITIONS,
    PER_DAY,
    REVIEWED,
    RUN_BYTES,
    RUN_S_MAX,
    SIDE_BY_SIDE_MAX,
    WINDOW,
    Run,
)
from services.platform.sender_report import latest_report
from services.platform.stages import OPTIONAL
from services.simulator.worlds import DRIFT, DRIFT_SHIFT_DAY

STOP_S_MAX = 12.0
_TELL_EVERY_S = 15.0
_TURN_S = 0.2
EXIT_INTERRUPTED = 130
_OURS = re.compile("WEIR_[A-Z]+_PORT|MAKELEVEL")
KEPT = ("summary.json", "recording.parquet", "moments.json", "logs")


@dataclass(slots=True)
class _Queue:
    side_by_side: int
    waiting: list[Run]
    running: list[Run] = field(default_factory=list)
    done: list[Run] = field(default_factory=list)


def scenario(name: str, seeds: Sequence[int], data_dir: Path, console: Console) -> int:
    """Run, judge, print, draw; exit status 0 when every run was exact and ended well. Raises Fatal."""
    if name != DRIFT:
        raise Fatal(f"SCENARIO={name}: must be {DRIFT}")
    # They bring xgboost and matplotlib: not before there is something to draw.
    from services.platform import scenario_drawing, scenario_report

    began_s = time.monotonic()
    folder = data_dir / "scenario"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # The longer ones first, or the last one ends alone.
    runs = [Run(seed, world, folder / f"seed-{seed}-{world}") for world in ("loop", "weekly") for seed in seeds]
    side_by_side = max(1, min(SIDE_BY_SIDE_MAX, psutil.virtual_memory().available // RUN_BYTES))
    console.print(
        f"{len(runs)} meshes, {side_by_side} at a time: {DAYS} days of about 1,060 payments, shift on day "
        f"{DRIFT_SHIFT_DAY}, labels after {LABEL_DELAY}, {REVIEWED} customers reviewed a day in the loop, precision at "
        f"the {PER_DAY} highest scores a day",
        soft_wrap=True,
    )
    with Interrupt() as interrupted:
        interrupted.noting()
        if not _run_all(_Queue(side_by_side, list(runs)), began_s, console, interrupted):
            return EXIT_INTERRUPTED
    report = scenario_report.judged(runs)
    seconds = time.monotonic() - began_s
    scenario_drawing.draw(report, folder)
    write_atomically(data_dir / "summary.json", json.dumps(report.as_json(seconds), indent=1) + "\n")
    console.print(scenario_drawing.to_text(report), markup=False, highlight=False, soft_wrap=True)
    console.print(f"{seconds:.0f} s; {folder / 'drift.html'}, {folder / 'drift.png'}, {data_dir / 'summary.json'}")
    return 0 if report.is_exact else 1


def _run_all(queue: _Queue, began_s: float, console: Console, interrupted: Interrupt) -> bool:
    """Whether all runs have come to their end; False: somebody wanted another one. Raises Fatal."""
    told_s, parent = time.monotonic(), Parent()
    try:
        while queue.waiting or queue.running:
            if interrupted or parent.wants_stop():
                console.print("stopping all meshes")
                return False
            while queue.waiting and len(queue.running) < queue.side_by_side:
                _start(run := queue.waiting.pop(0))
                queue.running.append(run)
            for run in list(queue.running):
                assert run.process is not None
                if run.process.poll() is not None:
                    queue.running.remove(run)
                    _ended(run, console, began_s)
                    queue.done.append(run)
                elif time.monotonic() - run.began_s > RUN_S_MAX:
                    raise Fatal(f"{run.name}: not done after {RUN_S_MAX:.0f} s; see {run.folder / 'logs'}")
            if time.monotonic() - told_s >= _TELL_EVERY_S:
                told_s = time.monotonic()
                shown = ", ".join(f"{run.name} day {_day(run)}" for run in queue.running)
                console.print(f"{told_s - began_s:6.1f} s  {shown}", highlight=False)
            time.sleep(_TURN_S)
        return True
    finally:
        _stop(queue.running)


def _start(run: Run) -> None:
    # Not what belongs to one mesh alone, or to whom make started.
    environment = {name: value for name, value in os.environ.items() if not _OURS.fullmatch(name)}
    # What is watched is what is measured.
    environment["WEIR_DRIFT_BUDGET_PER_DAY"] = str(PER_DAY)
    # Read by every java: ten brokers that live for minutes would compile themselves a second time for a third of their
    # processor time.
    environment["JDK_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1"
    run.output = run.log.open("wb")
    run.began_s = time.monotonic()
    run.process = subprocess.Popen(
        command(run), env=environment, stdin=subprocess.DEVNULL, stdout=run.output, stderr=subprocess.STDOUT
    )


def command(run: Run) -> list[str]:
    """``weir up`` for one run."""
    argv = [sys.executable, "-m", "services.cli", "up", "--data-dir", str(run.folder), "--world", DRIFT]
    argv += ["--seed", str(run.seed), "--days", str(DAYS), "--history-days", "0", "--speed", "max", "--record"]
    argv += ["--label-delay", LABEL_DELAY, "--partitions", str(PARTITIONS)]
    argv += ["--window", WINDOW]
    # Nobody asks, nobody looks; and no alerts where nobody would act on them.
    kept = {RETRAINING.name, DRIFT_SERVICE.name} if run.world == "loop" else {RETRAINING.name}
    argv += ["--without", ",".join(name for name in OPTIONAL if name not in kept)]
    return [*argv, "--reviewed", str(REVIEWED)] if run.world == "loop" else argv


def _ended(run: Run, console: Console, began_s: float) -> None:
    """Keep what the judging needs; the log itself may be large. Raises Fatal."""
    assert run.process is not None
    assert run.output is not None
    run.output.close()
    run.seconds = time.monotonic() - run.began_s
    if run.process.returncode != 0:
        last = run.log.read_text(errors="replace").strip().splitlines()
        raise Fatal(
            f"{run.name}: ended with {run.process.returncode} ({last[-1] if last else 'said nothing'}); see {run.log}"
        )
    for entry in run.folder.iterdir():
        if entry.is_dir() and entry.name not in KEPT:
            shutil.rmtree(entry, ignore_errors=True)
    console.print(f"{time.monotonic() - began_s:6.1f} s  {run.name} done in {run.seconds:.0f} s", highlight=False)


def _day(run: Run) -> str:
    report = latest_report(run.folder / "logs" / "simulator.log", 0.0)
    sent, total = report.get("sent_in_all", 0), report.get("total") or 1
    return f"{DAYS * sent // total}"


def _stop(runs: Sequence[Run]) -> None:
    """Whatever still runs, when something failed or somebody wants an end."""
    for run in runs:
        if run.process is not None:
            run.process.send_signal(signal.SIGTERM)
    end_s = time.monotonic() + STOP_S_MAX
    for run in runs:
        if run.process is not None:
            try:
                run.process.wait(max(0.1, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                run.process.kill()
                run.process.wait()
        if run.output is not None:
            run.output.close()
