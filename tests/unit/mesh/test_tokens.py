"""Tokens: what opens a door, what does not, and what a file of them has to look like."""

from __future__ import annotations

import json

import pytest

from services.mesh.errors import Fatal
from services.mesh.tokens import (
    SCOPES,
    TOKENS_MAX,
    Token,
    TokenBook,
    checked_scopes,
    hash_of,
    read_book,
    written,
)

NOW_MS = 1_700_000_000_000


def token(name: str = "shop", secret: str = "weir_s", expires_ms: int | None = None) -> Token:
    scopes = checked_scopes(["decide", "events:write"])
    return Token(name=name, scopes=scopes, sha256=hash_of(secret), created_ms=NOW_MS, expires_ms=expires_ms)


def test_a_secret_opens_its_own_token_and_no_other() -> None:
    book = TokenBook((token("a", "weir_a"), token("b", "weir_b"), token("c", "weir_c")))
    assert book.holder_of("weir_b", NOW_MS) == token("b", "weir_b")
    for wrong in ("", "weir_", "weir_B", "weir_b ", "weir_a weir_b", hash_of("weir_b"), "\ud800"):
        assert book.holder_of(wrong, NOW_MS) is None


def test_a_token_ends_at_its_moment() -> None:
    book = TokenBook((token(expires_ms=NOW_MS + 1),))
    assert book.holder_of("weir_s", NOW_MS) is not None
    assert book.holder_of("weir_s", NOW_MS + 1) is None


def test_the_file_holds_no_secret_and_reads_back_the_same() -> None:
    book = TokenBook((token("a", "weir_a"), token("b", "weir_b", NOW_MS + 5)))
    text = written(book)
    assert "weir_a" not in text
    assert read_book(text, "tokens.json") == book


def test_names_stand_once_and_only_known_ones_are_revoked() -> None:
    book = TokenBook().with_token(token("a"))
    with pytest.raises(Fatal, match="token a: there is one of that name"):
        book.with_token(token("a", "weir_other"))
    assert book.without("a") == TokenBook()
    with pytest.raises(Fatal, match=r"token b: there is none of that name \(there are: a\)"):
        book.without("b")


def test_there_is_an_end_to_tokens() -> None:
    book = TokenBook(tuple(token(f"t{number}") for number in range(TOKENS_MAX)))
    with pytest.raises(Fatal, match="1000 tokens already"):
        book.with_token(token("one-more"))


def test_scopes_are_a_closed_set() -> None:
    assert checked_scopes(SCOPES) == frozenset(SCOPES)
    with pytest.raises(Fatal, match="scope 'decisions:write' does not exist: name some of events:write, "):
        checked_scopes(["decide", "decisions:write"])
    with pytest.raises(Fatal, match="a token without a scope may do nothing"):
        checked_scopes([])


GOOD = json.loads(written(TokenBook((token(),))))


@pytest.mark.parametrize(
    "spoilt",
    [
        "", "[]", "{}", '"x"', "null",
        json.dumps(GOOD | {"format": "weir-tokens 2"}),
        json.dumps(GOOD | {"tokens": [GOOD["tokens"][0] | {"sha256": "00"}]}),
        json.dumps(GOOD | {"tokens": [GOOD["tokens"][0] | {"scopes": ["everything"]}]}),
        json.dumps(GOOD | {"tokens": [GOOD["tokens"][0] | {"scopes": "admin"}]}),
        json.dumps(GOOD | {"tokens": [GOOD["tokens"][0] | {"expires_ms": "never"}]}),
        json.dumps(GOOD | {"tokens": [GOOD["tokens"][0] | {"created_ms": True}]}),
        json.dumps(GOOD | {"tokens": [GOOD["tokens"][0] | {"name": "../x"}]}),
        json.dumps(GOOD | {"tokens": ["shop"]}),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_with_its_place(spoilt: str) -> None:
    with pytest.raises(Fatal, match=r"data/tokens\.json is not a file of tokens"):
        read_book(spoilt, "data/tokens.json")
