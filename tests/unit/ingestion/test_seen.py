from __future__ import annotations

import random
import tracemalloc

import pytest

from services.ingestion.capacity import BUCKETS, ROW_BYTES_MAX, capacity_line
from services.ingestion.seen import SeenIdentities, row_of


def identity(n: int, low: int | None = None) -> bytes:
    return (n * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "little") + (n if low is None else low).to_bytes(8, "little")


def look_up(seen: SeenIdentities, wanted: list[bytes], floor: int = 0) -> list[int | None]:
    probed = seen.probe(wanted)
    return [seen.body_of(one, probed.get(index), floor) for index, one in enumerate(wanted)]


def test_finds_in_the_dict_and_in_every_frozen_column() -> None:
    seen = SeenIdentities(open_rows_max=10)
    for n in range(1_000):
        seen.add(identity(n), n + 7, n % 5)
        if n % 13 == 0:
            seen.settle(0)
    wanted = [identity(n) for n in random.Random(1).sample(range(2_000), 2_000)]
    known = {identity(n): n + 7 for n in range(1_000)}
    assert look_up(seen, wanted) == [known.get(one) for one in wanted]
    assert len(seen) == 1_000


def test_identities_that_share_their_first_half_are_told_apart() -> None:
    seen = SeenIdentities(open_rows_max=2)
    for n in range(20):
        seen.add(identity(1, low=n), n, 0)
    seen.settle(0)
    assert look_up(seen, [identity(1, low=n) for n in range(22)]) == [*range(20), None, None]


def test_below_the_floor_nothing_counts_whether_dropped_or_not() -> None:
    seen = SeenIdentities(open_rows_max=2)
    for n in range(6):
        seen.add(identity(n), n, n)
        seen.settle(0)
    assert look_up(seen, [identity(n) for n in range(6)], floor=3) == [None, None, None, 3, 4, 5]
    seen.settle(3)
    assert look_up(seen, [identity(n) for n in range(6)], floor=3) == [None, None, None, 3, 4, 5]


def test_an_identity_used_anew_counts_by_its_latest_row() -> None:
    seen = SeenIdentities(open_rows_max=0)
    for bucket in (1, 9):
        seen.add(identity(1), bucket, bucket)
        seen.settle(0)
    assert look_up(seen, [identity(1)], floor=5) == [9]


@pytest.mark.parametrize("open_rows_max", [4, 1_000])
def test_dump_and_load_carry_everything_over(open_rows_max: int) -> None:
    seen, again = SeenIdentities(open_rows_max), SeenIdentities(open_rows_max)
    for n in range(100):
        seen.add(identity(n), n, n % 4)
        seen.settle(0)
    for bucket, rows in seen.dump(1):
        again.load(bucket, rows)
    wanted = [identity(n) for n in range(100)]
    assert look_up(again, wanted) == [n if n % 4 else None for n in range(100)]
    assert dict(seen.dump(1)).keys() == {1, 2, 3}


def test_a_torn_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match="25 bytes, no multiple of 24"):
        SeenIdentities().load(3, row_of(identity(1), 1) + b"x")


def test_an_identity_costs_at_most_forty_bytes_even_while_merging() -> None:
    rows = 120_000
    tracemalloc.start()
    seen = SeenIdentities()
    for n in range(rows):
        seen.add(identity(n), n, n * (BUCKETS + 1) // rows)
        if n % 500 == 0:
            seen.settle(0)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(seen) == rows
    assert held / rows < ROW_BYTES_MAX
    assert peak / rows < ROW_BYTES_MAX


def test_capacity_is_worked_out_from_the_bound() -> None:
    assert capacity_line(512 << 20, 3_600_000, 8) == (
        "seen identities: 512 MiB hold 13,176,012 at 40 bytes each; kept for 4,200 s of event time they carry "
        "3,137 events/s sustained"
    )
