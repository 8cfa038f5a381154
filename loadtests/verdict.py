"""What is promised beside what was measured; pure. The promises are those of the design, section 6."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

BUDGETS_FILE = Path(__file__).with_name("budgets.toml")

SUSTAINED_PER_S_MIN = 4_000.0
P99_RATIO_MAX = 1.5
THROUGHPUT_RATIO_MIN = 0.4
CPU_US_MAX = 200.0


@dataclass(frozen=True, slots=True)
class Target:
    """One promise."""

    what: str
    measured: float
    kind: Literal[">=", "<="]
    limit: float
    stretch: float

    @property
    def is_met(self) -> bool:
        """Whether it was kept."""
        return self.measured >= self.limit if self.kind == ">=" else self.measured <= self.limit

    def line(self) -> str:
        """For people."""
        word = "met   " if self.is_met else "MISSED"
        return f"{word} {self.what}: {self.measured:,.2f} ({self.kind} {self.limit:g}, stretch {self.stretch:g})"


def read_budgets(file: Path = BUDGETS_FILE) -> dict[str, float]:
    """Hop -> microseconds per event."""
    budgets: dict[str, float] = tomllib.loads(file.read_text(encoding="utf-8"))["hop_us"]
    return budgets


def targets(*, sustained_per_s: float, p99_ratio: float, throughput_ratio: float, mesh_cpu_us: float) -> list[Target]:
    """The promises about a mesh under load."""
    at_half = "at half the sustained rate"
    return [
        Target("sustained without growing lag, events/s", sustained_per_s, ">=", SUSTAINED_PER_S_MIN, 12_000),
        Target(f"p99 over bare p99, raw append to visible, {at_half}", p99_ratio, "<=", P99_RATIO_MAX, 1.2),
        Target("throughput over bare", throughput_ratio, ">=", THROUGHPUT_RATIO_MIN, 0.7),
        Target("CPU of the mesh without broker, us/event", mesh_cpu_us, "<=", CPU_US_MAX, 80),
    ]


def latency_table(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Latencies in milliseconds, one row a name."""
    columns = ("p50", "p99", "p999", "max")
    head = f"{'ms':<46}" + "".join(f"{name:>10}" for name in columns)
    return [head] + [f"{name:<46}" + "".join(f"{found[c]:>10.1f}" for c in columns) for name, found in rows.items()]


def cpu_table(
    columns: Mapping[str, Mapping[str, float]], hops: Sequence[str], budgets: Mapping[str, float]
) -> list[str]:
    """Microseconds per event by hop and measurement, with each hop's budget."""
    head = f"{'CPU us/event':<22}{'budget':>8}" + "".join(f"{name:>20}" for name in columns)
    lines = [head]
    for hop in hops:
        budget = f"{budgets[hop]:>8.0f}" if hop in budgets else f"{'':>8}"
        cells = "".join(f"{cpu[hop]:>20.1f}" if hop in cpu else f"{'':>20}" for cpu in columns.values())
        lines.append(f"{hop:<22}{budget}{cells}")
    return lines
