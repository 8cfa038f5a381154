"""What the scenario runs: its worlds, its sizes, its meshes."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from services.simulator.worlds import DRIFT_SHIFT_DAY

WorldName = Literal["frozen", "weekly", "loop"]
WORLDS: tuple[WorldName, ...] = ("frozen", "weekly", "loop")

SEEDS_DEFAULT = (1, 2, 3, 4, 5)
DAYS = DRIFT_SHIFT_DAY + 35
LABEL_DELAY = "7d"
REVIEWED = 60  # customers that analysts of the loop look into each evening
PER_DAY = 20  # payments a day at which precision is measured: the review budget
# Two meshes fill two cores: while one waits for a midnight, the other computes.
SIDE_BY_SIDE = 2
PARTITIONS = 4
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
    def name(self) -> str:
        """For people."""
        return f"seed {self.seed} {self.world}"
