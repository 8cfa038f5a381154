"""What a source hands to the sender: records ready to go, and apart the outcomes that will follow them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.mesh.topics import RAW_BYTES_MAX
from services.simulator.outcomes import OutcomeRun, TrueLabels
from services.simulator.outliers import believable_ms

Ints = NDArray[np.int64]

CHUNK_RECORDS_MAX = 8_192  # about 2 MB of records; larger only makes the first one later
RECORD_BYTES_MAX = RAW_BYTES_MAX - 8_192  # what a topic takes, less a generous key and the batch's own header


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Consecutive records of a source, in sending order; all columns of length n."""

    first: int  # position of the first record in its source; the i-th is at first + i
    clock_ms: Ints  # newest event time up to and including each record; never falls
    keys: list[bytes | None]
    values: list[bytes]
    outcomes: OutcomeRun | None  # of the events in here
    truth: TrueLabels | None = None  # of those of them that it is known of

    def __len__(self) -> int:
        return len(self.values)


class Source(Protocol):
    """Where payments come from; reading it twice gives the same records at the same positions."""

    @property
    def name(self) -> str:
        """What tells this source from any other: progress is kept under it."""
        ...

    @property
    def records_expected(self) -> int | None:
        """About how many records it has; None when it has no end or nobody has counted."""
        ...

    @property
    def history_until_ms(self) -> int | None:
        """Event time up to which pacing does not apply; None when it always does."""
        ...

    def chunks(self, position: int) -> Iterator[Chunk]:
        """Chunks that hold all records from ``position`` on, and all whose outcomes may still be due there.

        Chunks with records before ``position`` may come first; those were sent already.
        """
        ...


def running_clock(event_time_ms: Ints, clock_before_ms: int) -> Ints:
    """Newest believable event time so far at each record, never below ``clock_before_ms``."""
    if not len(event_time_ms):
        return event_time_ms
    return np.maximum(np.maximum.accumulate(believable_ms(event_time_ms)), clock_before_ms)


def file_name(file: Path) -> str:
    """A file's name as a source; a changed file is another source, whose progress is not continued."""
    facts = file.stat()
    return f"file {file.resolve()} {facts.st_size} bytes of {facts.st_mtime_ns}"
