"""Marks: what they admit, and that they always fit where they are kept."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mesh.errors import Fatal
from services.mesh.headers import LANE, Hop
from services.mesh.watermark import LANES_MAX, METADATA_BYTES_MAX, Marks, check_partitions

PARTITIONS = st.integers(0, 16 * LANE - 1)
OFFSETS = st.integers(0, 2**63 - 1)
ORDINALS = st.integers(0, 2**16 - 1)
TAKEN = st.dictionaries(PARTITIONS, st.tuples(OFFSETS, ORDINALS), max_size=60)


@given(TAKEN)
def test_marks_survive_the_metadata(taken: dict[int, tuple[int, int]]) -> None:
    marks = Marks(taken)
    metadata = marks.to_metadata()
    assert metadata.isascii()
    assert Marks.from_metadata(metadata) == marks


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 2)), max_size=40))
def test_of_each_partition_only_ascending_hops_are_admitted(hops: list[tuple[int, int, int]]) -> None:
    marks, admitted = Marks(), []
    for partition, offset, ordinal in hops:
        if marks.admit(Hop(0, 0, partition, offset, ordinal)):
            admitted.append((partition, (offset, ordinal)))
    for partition in range(3):
        mine = [place for where, place in admitted if where == partition]
        assert mine == sorted(set(mine))
        offered = [(offset, ordinal) for where, offset, ordinal in hops if where == partition]
        assert not offered or mine[0] == offered[0]
        assert not offered or mine[-1] == max(offered)


def test_lanes_do_not_hide_each_other() -> None:
    marks = Marks()
    assert marks.admit(Hop(0, 0, 3, 1_000, 0))
    assert marks.admit(Hop(0, 0, LANE + 3, 5, 0))
    assert not marks.admit(Hop(0, 0, 3, 1_000, 0))


def test_a_copy_is_independent() -> None:
    marks = Marks({1: (5, 0)})
    copy = marks.copy()
    assert copy.admit(Hop(0, 0, 1, 6, 0))
    assert marks == Marks({1: (5, 0)})


def test_the_most_partitions_that_are_allowed_fit_at_their_worst() -> None:
    allowed = max(n for n in range(1, 400) if _is_allowed(n))
    worst = {lane * LANE + p: (2**63 - 1, 2**14 - 1) for lane in range(LANES_MAX) for p in range(allowed)}
    assert len(Marks(worst).to_metadata()) <= METADATA_BYTES_MAX
    with pytest.raises(Fatal, match=f"use at most {allowed} partitions"):
        check_partitions(allowed + 1)


def _is_allowed(partitions: int) -> bool:
    try:
        check_partitions(partitions)
    except Fatal:
        return False
    return True


@pytest.mark.parametrize(
    "metadata",
    [
        "leader-epoch=3",
        "!!!",
        b64encode(b"\x02\x01\x01\x01").decode(),  # another version
        b64encode(b"\x01\x01\x01").decode(),  # a mark cut short
        b64encode(b"\x01\x01\x01\x81").decode(),  # a number cut short
        b64encode(b"").decode() + "====",
    ],
)
def test_metadata_of_somebody_else_is_fatal(metadata: str) -> None:
    with pytest.raises(Fatal, match="committed by another tool"):
        Marks.from_metadata(metadata)


def test_no_metadata_is_no_marks() -> None:
    assert Marks.from_metadata("") == Marks()
    assert Marks().to_metadata() == ""
