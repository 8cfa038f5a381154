"""Vectors as people and receivers see them: numbers, and nothing where a value is missing."""

from __future__ import annotations

import math
import struct

from services.mesh.feature_set import values_of


def test_a_missing_value_is_none_and_not_a_number_that_json_cannot_say() -> None:
    assert values_of(struct.pack("<3f", 0.1, math.nan, -2.0)) == [0.10000000149011612, None, -2.0]


def test_a_vector_that_was_cut_gives_what_is_whole() -> None:
    assert values_of(struct.pack("<2f", 1.5, 2.5)[:7]) == [1.5]
    assert values_of(b"") == []
