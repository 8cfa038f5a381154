"""The live view of ``make run``: a table that redraws itself on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from services.platform.observe import StageStatus

_LINE_EVERY_S = 5.0
_REDRAWS_PER_S = 2
_EVENTS_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that the view shows."""

    stages: Sequence[StageStatus]
    decisions: int
    latency_ms: Mapping[str, int | None]
    actions: Mapping[str, int]
    event_time_ms: int
    sent: int
    total: int | None
    sender: str  # what the sender is doing
    seconds: float


class View:
    """Shows snapshots and what happens to processes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=_REDRAWS_PER_S) if console.is_terminal else None
        self._happened: list[str] = []
        self._line_at_s = 0.0
        if self._live:
            self._live.start()

    def happened(self, name: str, what: str) -> None:
        """Something happened to a process."""
        line = f"{datetime.now(UTC):%H:%M:%S} {name}: {what}"
        if self._live:
            self._happened = [*self._happened, line][-_EVENTS_SHOWN:]
        else:
            self._console.print(line, markup=False, highlight=False)

    def show(self, snapshot: Snapshot) -> None:
        """Draw ``snapshot``."""
        if self._live:
            self._live.update(self._drawn(snapshot))
        elif time.monotonic() >= self._line_at_s:
            self._line_at_s = time.monotonic() + _LINE_EVERY_S
            self._console.print(_line(snapshot), markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the last picture standing."""
        if self._live:
            self._live.stop()

    def _drawn(self, snapshot: Snapshot) -> RenderableType:
        table = Table(title="Weir", title_justify="left", expand=False)
        for name in ("stage", "events/s", "lag", "input age", "us/event", "in force", ""):
            table.add_column(name, justify="left" if name in ("stage", "in force", "") else "right")
        for stage in snapshot.stages:
            table.add_row(
                stage.stage,
                f"{stage.rate_per_s:,.0f}",
                f"{stage.lag:,}",
                f"{stage.input_age_ms:,.0f} ms",
                f"{stage.step_us:.0f}",
                " ".join(stage.versions.values()),
                _state(stage),
            )
        parts: list[RenderableType] = [table, Text(_line(snapshot))]
        if snapshot.total:
            parts.append(ProgressBar(total=snapshot.total, completed=snapshot.sent, width=80))
        return Group(*parts, *(Text(line, style="dim") for line in self._happened))


def _state(stage: StageStatus) -> str:
    if stage.halted:
        return f"halted: {stage.halted}"
    rejects = sum(stage.rejects.values())
    notes = [] if stage.ready == stage.instances else [f"{stage.ready}/{stage.instances} ready"]
    notes += [f"{rejects:,} refused"] if rejects else []
    notes += [f"{stage.duplicates:,} repeated"] if stage.duplicates else []
    notes += [f"{count:,} {status}" for status, count in stage.statuses.items() if status != "ok"]
    return ", ".join(notes)


def _line(snapshot: Snapshot) -> str:
    latency = snapshot.latency_ms
    shown = " / ".join("-" if latency[name] is None else f"{latency[name]:,}" for name in ("p50", "p99", "p999"))
    all_actions = sum(snapshot.actions.values()) or 1
    mix = " ".join(f"{name} {100 * count / all_actions:.1f}%" for name, count in sorted(snapshot.actions.items()))
    sent = f"{snapshot.sent:,}" + (f" of {snapshot.total:,}" if snapshot.total else "")
    when = datetime.fromtimestamp(snapshot.event_time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    rate = max((stage.rate_per_s for stage in snapshot.stages[-1:]), default=0.0)
    lag = sum(stage.lag for stage in snapshot.stages)
    return (
        f"{snapshot.seconds:5.0f} s  event time {when}  sent {sent} ({snapshot.sender})  decided "
        f"{snapshot.decisions:,} at {rate:,.0f}/s  lag {lag:,}  latency p50/p99/p99.9 {shown} ms  {mix}"
    )
