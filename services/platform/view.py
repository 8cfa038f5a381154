"""The live view of ``make run``: a picture that redraws itself on a terminal, a line now and then elsewhere.

What happens to processes stays: on a terminal it scrolls away above the picture.
"""

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

_PICTURE_EVERY_S = 1.0
_LINE_EVERY_S = 5.0
_REDRAWS_PER_S = 2
_BAR_WIDTH = 40
_VERSION_LENGTH_MAX = 24
_DECIDING = "decisions"  # the last stage: its rate is the mesh's


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that the view shows."""

    stages: Sequence[StageStatus]
    decisions: int
    latency_ms: Mapping[str, int | None]  # of the last seconds
    actions: Mapping[str, int]
    event_time_ms: int  # 0: none yet
    sent: int
    total: int | None
    phase: str  # what the sender is doing
    seconds: float


class View:
    """Shows snapshots, and one line for what happens."""

    def __init__(self, console: Console, started_s: float) -> None:
        self._console = console
        self._started_s = started_s
        self._live: Live | None = None
        self._line_at_s = 0.0

    @property
    def every_s(self) -> float:
        """How often there is something new to show; asking a mesh oftener would cost it for nothing."""
        return _PICTURE_EVERY_S if self._console.is_terminal else _LINE_EVERY_S

    def happened(self, line: str) -> None:
        """Something that a person wants to know, with the seconds since the start."""
        seconds = time.monotonic() - self._started_s
        self._print(f"{seconds:6.1f} s  {line}")

    def show(self, snapshot: Snapshot) -> None:
        """Draw ``snapshot``, or print it when the last line is old enough."""
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._console, refresh_per_second=_REDRAWS_PER_S)
                self._live.start()
            self._live.update(drawn(snapshot))
        elif time.monotonic() >= self._line_at_s:
            self._line_at_s = time.monotonic() + _LINE_EVERY_S
            self._print(line_of(snapshot))

    def close(self) -> None:
        """Leave the last picture standing."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def drawn(snapshot: Snapshot) -> RenderableType:
    """The picture, 80 columns wide."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("stage")
    for title in ("events/s", "lag", "input age", "us/event"):
        table.add_column(title, justify="right")
    table.add_column("")
    for stage in snapshot.stages:
        table.add_row(
            stage.stage,
            f"{stage.rate_per_s:,.0f}",
            f"{stage.lag:,}",
            f"{stage.input_age_ms:,.0f} ms",
            f"{stage.step_us:.0f}",
            Text(_notes(stage), style="yellow"),
        )
    parts: list[RenderableType] = [Text(f"{snapshot.seconds:6.1f} s  {_sent(snapshot)}", style="bold")]
    if snapshot.total:
        parts.append(ProgressBar(total=snapshot.total, completed=snapshot.sent, width=_BAR_WIDTH))
    parts += [Text(f"{_decided(snapshot)}  {_mix(snapshot)}"), Text(_latency(snapshot)), Text(), table]
    parts.append(Text(_in_force(snapshot), style="dim"))
    return Group(*parts)


def line_of(snapshot: Snapshot) -> str:
    """The same on one line."""
    lag = sum(stage.lag for stage in snapshot.stages)
    parts = (_sent(snapshot), _decided(snapshot), f"lag {lag:,}", _latency(snapshot), _mix(snapshot))
    return f"{snapshot.seconds:6.1f} s  {'  '.join(part for part in parts if part)}"


def _sent(snapshot: Snapshot) -> str:
    total = f" of {snapshot.total:,} ({100 * snapshot.sent / snapshot.total:.0f}%)" if snapshot.total else ""
    when = f"  event time {datetime.fromtimestamp(snapshot.event_time_ms / 1000, UTC):%Y-%m-%d %H:%M}"
    return f"{snapshot.phase}: sent {snapshot.sent:,}{total}{when if snapshot.event_time_ms else ''}"


def _decided(snapshot: Snapshot) -> str:
    rate_per_s = next((stage.rate_per_s for stage in snapshot.stages if stage.stage == _DECIDING), 0.0)
    return f"decided {snapshot.decisions:,} at {rate_per_s:,.0f}/s"


def _latency(snapshot: Snapshot) -> str:
    shown = [
        "-" if snapshot.latency_ms[name] is None else f"{snapshot.latency_ms[name]:,}" for name in snapshot.latency_ms
    ]
    return f"latency p50/p99/p99.9 {' / '.join(shown)} ms"


def _mix(snapshot: Snapshot) -> str:
    total = sum(snapshot.actions.values())
    return " ".join(f"{name} {100 * count / total:.1f}%" for name, count in sorted(snapshot.actions.items()))


def _in_force(snapshot: Snapshot) -> str:
    """Versions that the stages use, each once."""
    versions = {what: version for stage in snapshot.stages for what, version in sorted(stage.versions.items())}
    return "  ".join(f"{what} {version[:_VERSION_LENGTH_MAX]}" for what, version in versions.items())


def _notes(stage: StageStatus) -> str:
    """What a person should know beside the numbers."""
    if stage.halted:
        return f"halted: {stage.halted}"
    rejects = sum(stage.rejects.values())
    notes = [] if stage.ready == stage.instances else [f"{stage.ready} of {stage.instances} ready"]
    notes += [f"{rejects:,} refused"] if rejects else []
    notes += [f"{stage.duplicates:,} repeated"] if stage.duplicates else []
    waiting = stage.gauges.get("weir_outcomes_waiting", 0)
    notes += [f"{waiting:,} outcomes waiting"] if waiting else []
    notes += [f"{count:,} {status}" for status, count in sorted(stage.statuses.items()) if status != "ok" and count]
    return ", ".join(notes)
