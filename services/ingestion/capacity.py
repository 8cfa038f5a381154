"""How many identities memory can hold, and at what rate of events that is enough. Pure."""

from __future__ import annotations

from typing import Final

# What a row may cost with all overhead: spare room while merging, columns' and buckets' own objects. A test measures.
ROW_BYTES_MAX: Final = 40
# About 250 bytes each as dict entries, so 1 MB a partition; a frozen batch look-up costs 10 us a column set, saved
# altogether while everything fits here (the usual case when history is replayed: an hour is a few hundred events).
OPEN_ROWS_MAX: Final = 4_096
OPEN_BYTES_MAX: Final = OPEN_ROWS_MAX * 300
# The lateness is cut in this many buckets: what is kept too long is at most one of them.
BUCKETS: Final = 6


def capacity_line(memory_bytes: int, lateness_ms: int, partitions: int) -> str:
    """What ``memory_bytes`` can carry, for the log at start-up."""
    rows = max(0, memory_bytes - partitions * OPEN_BYTES_MAX) // ROW_BYTES_MAX
    span_s = lateness_ms * (BUCKETS + 1) / BUCKETS / 1_000
    return (
        f"seen identities: {memory_bytes / 2**20:,.0f} MiB hold {rows:,} at {ROW_BYTES_MAX} bytes each; "
        f"kept for {span_s:,.0f} s of event time they carry {rows / span_s:,.0f} events/s sustained"
    )
