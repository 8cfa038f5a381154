"""Names and choices as people write them."""

from __future__ import annotations

import pytest

from services.mesh.errors import Fatal
from services.mesh.names import checked_choices, checked_name, separate


@pytest.mark.parametrize("name", ["", "A", "Bank", "-a", "a b", "a" * 65, "ä", "a\n"])
def test_a_name_is_plain(name: str) -> None:
    with pytest.raises(Fatal, match=r"token name .*: must be 1 to 64 of a-z"):
        checked_name("token", name)


@pytest.mark.parametrize("name", ["a", "7", "shop-1.eu_west", "a" * 64])
def test_a_plain_name_is_taken_as_it_is(name: str) -> None:
    assert checked_name("token", name) == name


def test_choices_are_a_closed_set() -> None:
    assert checked_choices("fruit", ("apple", "pear"), ["pear", "apple", "pear"], "") == {"apple", "pear"}
    with pytest.raises(Fatal, match=r"^fruit 'fig' does not exist: name some of apple, pear$"):
        checked_choices("fruit", ("apple", "pear"), ["pear", "fig"], "")
    with pytest.raises(Fatal, match=r"^no fruit at all: name some of apple, pear$"):
        checked_choices("fruit", ("apple", "pear"), [], "no fruit at all")


def test_a_list_is_written_with_commas() -> None:
    assert separate(" a, b,,c ,") == ["a", "b", "c"]
    assert separate(" , ") == []
