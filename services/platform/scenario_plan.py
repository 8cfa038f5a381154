"""What the scenario runs: its worlds, its sizes, its meshes."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from services.simulator.worlds import DRIFT_SHIFT_DAY

WorldName = Literal["frozen", "weekly", "loop"]
WORLDS: tuple[WorldName, ...] = ("frozen", "weekly", "loop")

SEEDS_DEFAULT = (1, 2, 3, 4, 5)
DAYS = DRIFT_SHIFT_DAY + 21
LABEL_DELAY = "7d"
REVIEWED = 60  # customers that analysts of the loop look into each evening
PER_DAY = 20  # payments a day at which precision is measured: the review budget
# One mesh fills a core, and while it waits for one it asks and looks no less; each wants 2 GB.
SIDE_BY_SIDE_MAX = max(1, os.cpu_count() or 1)
RUN_BYTES = 2_500_000_000
PARTITIONS = 2  # a thousand payments a day; each one more is more markers, fetches and commits
# Labels and analysts come when event time stands, so how much of a day is on its way at once changes nothing.
WINDOW = "1d"
RUN_S_MAX = 900.0


@dataclass(slots=True)
class Run:
    """One mesh of the scenario."""

    seed: int
    world: WorldName  # weekly, which is frozen's too, or loop
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    output: IO[bytes] | None = None
    began_s: float = 0.0
    seconds: float = 0.0

    @property
    def log(self) -> Path:
        """What it prints; beside its folder, which must be empty when it starts."""
        return self.folder.with_suffix(".log")

    @property
    def name(self) -> str:
        """For people."""
        return f"seed {self.seed} {self.world}"
