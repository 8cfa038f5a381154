"""The packed header says where a record comes from, or is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mesh.errors import Poison, RejectCode
from services.mesh.headers import LANE, Hop, find, pack_hop, traceparent_of, unpack_hop
from services.mesh.identity import identity_of, tag_of

U16, OFFSET = st.integers(0, 2**16 - 1), st.integers(0, 2**63 - 1)
HOPS = st.builds(Hop, U16, OFFSET, U16, OFFSET, U16)


@given(HOPS)
def test_a_hop_survives_its_header(hop: Hop) -> None:
    assert unpack_hop(pack_hop(hop)) == hop


@given(st.binary(max_size=40))
def test_any_other_bytes_are_poison_never_an_error(value: bytes) -> None:
    if len(value) == 23 and value[0] == 1:
        assert pack_hop(unpack_hop(value)) == value
        return
    with pytest.raises(Poison) as refused:
        unpack_hop(value)
    assert (refused.value.code, refused.value.field) == (RejectCode.UNDECODABLE, "weir")


def test_the_lane_is_no_part_of_the_partition_number() -> None:
    assert Hop(0, 0, 3 * LANE + 17, 0, 0).previous_partition_number == 17


def test_the_first_header_of_a_name_counts() -> None:
    assert find([("a", b"1"), ("b", None), ("a", b"2")], "a") == b"1"
    assert find([("a", b"1"), ("b", None)], "b") is None
    assert find([], "a") is None


def test_a_trace_is_found_from_the_ids() -> None:
    identity = identity_of("c1", "e1")
    parent = traceparent_of(identity)
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-00", parent)
    assert parent.split(b"-")[1].decode() == identity.hex()


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_identities_differ_when_the_ids_do(a: str, b: str, c: str, d: str) -> None:
    assert (identity_of(a, b) == identity_of(c, d)) == ((a, b) == (c, d))


def test_an_identity_is_pinned() -> None:
    """It is stored for months: a change of the hash is a new version of the state."""
    assert identity_of("c1", "e1").hex() == "3dd55f6599f168f838a88de84d303417"
    assert tag_of(identity_of("c1", "e1")) < 1 << 62


@pytest.mark.parametrize(("left", "right"), [(("ab", "c"), ("a", "bc")), (("", "ab"), ("ab", ""))])
def test_where_one_id_ends_counts(left: tuple[str, str], right: tuple[str, str]) -> None:
    assert identity_of(*left) != identity_of(*right)
