"""How long a stage waits for company before it works: the broker's work for a transaction is the same for 1 or 500."""

from __future__ import annotations

from typing import Final, NamedTuple


class Pace(NamedTuple):
    """Of one stage."""

    batch_records_max: int
    batch_wait_ms: int  # from a batch's first record on
    fetch_wait_ms: int  # how long the broker may gather
    fetch_bytes_min: int  # what it answers with at once


# Decisions have a latency budget. Beyond 500 records the gain is small and the wait grows; while nothing happens the
# broker answers each half second.
AT_ONCE: Final = Pace(batch_records_max=500, batch_wait_ms=10, fetch_wait_ms=500, fetch_bytes_min=1)
# Labels and people's queues have a freshness budget. A fetch that is answered at once is answered for each transaction
# of the stage before: 35 times a second with 60 records each, at 2,000 events a second.
TOGETHER: Final = Pace(batch_records_max=2_000, batch_wait_ms=100, fetch_wait_ms=250, fetch_bytes_min=1_048_576)
