"""A customer's model is decided by the customer id, the same today, tomorrow and in a replay."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.champion import BUCKETS, Share, model_for, split_bucket


def test_buckets_are_fixed_for_ever() -> None:
    assert [split_bucket(customer) for customer in ("c1", "c2", "Zoë")] == [8932, 2754, 3589]


def test_another_process_agrees() -> None:
    program = "from services.scoring.champion import split_bucket; print(split_bucket('c1'))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert int(answer.stdout) == split_bucket("c1")


def test_buckets_are_even() -> None:
    tenths = Counter(split_bucket(f"c{i}") * 10 // BUCKETS for i in range(20_000))
    assert sorted(tenths) == list(range(10))
    assert all(abs(count - 2_000) < 200 for count in tenths.values())


def test_shares_are_taken_from_the_top_in_order() -> None:
    challengers = (Share(model_version="b", buckets=500), Share(model_version="c", buckets=1_000))
    by_bucket = [model_for(bucket, "a", challengers) for bucket in range(BUCKETS)]
    assert by_bucket == ["a"] * 8_500 + ["c"] * 1_000 + ["b"] * 500


@given(st.integers(0, BUCKETS - 1), st.integers(0, BUCKETS), st.integers(0, BUCKETS))
def test_a_growing_share_keeps_its_customers(bucket: int, one: int, other: int) -> None:
    small, large = sorted((one, other))
    if model_for(bucket, "a", [Share(model_version="b", buckets=small)]) == "b":
        assert model_for(bucket, "a", [Share(model_version="b", buckets=large)]) == "b"


def test_shares_beyond_everything_are_a_bug() -> None:
    with pytest.raises(AssertionError):
        model_for(0, "a", [Share(model_version="b", buckets=BUCKETS + 1)])
