"""Small input files whose fate is known line by line."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from services.mesh.partitioner import Partitioner
from services.mesh.topics import DATA_PARTITIONS_DEFAULT

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
START_MS = 1_735_689_600_000  # 2025-01-01
LATENESS_MS = HOUR_MS

Payment = dict[str, object]


def payments(count: int, days: int, seed: int = 1) -> list[Payment]:
    """``count`` payments in order of time over ``days`` days."""
    chance = random.Random(seed)
    step_ms = days * DAY_MS // count
    return [
        {
            "event_id": f"e{number:06d}",
            "event_time_ms": START_MS + number * step_ms,
            "customer_id": f"c{chance.randrange(200)}",
            "terminal_id": f"t{chance.randrange(300)}",
            "amount_minor": chance.randrange(100, 50_000),
        }
        for number in range(count)
    ]


def with_truth(rows: list[Payment], share: float = 0.02, seed: int = 2) -> list[Payment]:
    """The same with an ``is_fraud`` column."""
    chance = random.Random(seed)
    return [{**row, "is_fraud": chance.random() < share} for row in rows]


def write_jsonl(file: Path, rows: list[Payment]) -> Path:
    """One object a line."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def write_parquet(file: Path, rows: list[Payment]) -> Path:
    """All rows, columns by type."""
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


@dataclass(slots=True)
class Fates:
    """What should become of each line, worked out from the design alone: sent once, then once more."""

    lines: list[bytes] = field(default_factory=list)
    rejects: Counter[tuple[bytes, str]] = field(default_factory=Counter)  # (line, code) -> how often
    accepted: set[tuple[str, str]] = field(default_factory=set)  # customer, id
    _clocks: dict[int, int] = field(default_factory=dict)
    _bodies: dict[tuple[str, str], Payment] = field(default_factory=dict)
    _sent: list[tuple[bytes, Payment | None, str]] = field(default_factory=list)

    def good(self, row: Payment) -> None:
        """A payment, for the first time or again, with its own body or another."""
        self._send(json.dumps(row).encode(), row, "")

    def bad(self, line: bytes, code: str) -> None:
        """A line that is refused whatever came before."""
        self._send(line, None, code)

    def send_again(self) -> int:
        """Every line once more; how many are repeats, of which nothing is left but the first decision."""
        repeats = 0
        for line, row, code in list(self._sent):
            repeats += self._judge(line, row, code)
        return repeats

    def _send(self, line: bytes, row: Payment | None, code: str) -> None:
        self.lines.append(line)
        self._sent.append((line, row, code))
        self._judge(line, row, code)

    def _judge(self, line: bytes, row: Payment | None, code: str) -> bool:
        """Book one sending of one line; True for a repeat."""
        if row is None:
            self.rejects[line, code] += 1
            return False
        identity = str(row["customer_id"]), str(row["event_id"])
        partition = Partitioner(DATA_PARTITIONS_DEFAULT).partition_of(identity[0].encode())
        time_ms = int(str(row["event_time_ms"]))
        if time_ms < self._clocks.get(partition, 0) - LATENESS_MS:
            self.rejects[line, "late"] += 1
            return False
        known = self._bodies.setdefault(identity, row)
        if known != row:
            self.rejects[line, "conflict"] += 1
            return False
        if identity in self.accepted:
            return True
        self.accepted.add(identity)
        self._clocks[partition] = max(self._clocks.get(partition, 0), time_ms)
        return False
