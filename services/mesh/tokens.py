"""Bearer tokens: who may do what at the mesh's doors for people and callers. Pure.

A token's secret is 256 random bits, so its plain SHA-256 can be kept: there is nothing to guess, and nothing that a
slow hash would protect. It is compared in constant time with every token that there is.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from services.mesh.errors import Fatal
from services.mesh.names import checked_choices, is_name

Scope = Literal["events:write", "decisions:read", "decide", "outcomes:write", "review", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

SECRET_BYTES: Final = 32
SECRET_PREFIX: Final = "weir_"  # scanners for leaked secrets look for such marks
TOKENS_MAX: Final = 1_000  # each presented secret is compared with all of them: 0.3 ms
_FORMAT: Final = "weir-tokens 1"
_HASH: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token, without its secret."""

    name: str
    scopes: frozenset[Scope]
    sha256: str  # of the whole secret, hex
    created_ms: int
    expires_ms: int | None = None  # None: never

    def is_valid_at(self, now_ms: int) -> bool:
        """Whether it has not expired."""
        return self.expires_ms is None or now_ms < self.expires_ms

    @property
    def scopes_in_order(self) -> list[Scope]:
        """As everybody lists them."""
        return [scope for scope in SCOPES if scope in self.scopes]


@dataclass(frozen=True, slots=True)
class TokenBook:
    """Every token, by name."""

    tokens: tuple[Token, ...] = ()

    def holder_of(self, secret: str, now_ms: int) -> Token | None:
        """The token whose secret this is; None when there is none, or it has expired."""
        presented = hash_of(secret)
        found: Token | None = None
        for token in self.tokens:  # all of them, so that the time taken tells nothing
            if hmac.compare_digest(token.sha256, presented):
                found = token
        return found if found is not None and found.is_valid_at(now_ms) else None

    def with_token(self, token: Token) -> TokenBook:
        """The book with one more. Raises Fatal when the name is taken."""
        if any(other.name == token.name for other in self.tokens):
            raise Fatal(f"token {token.name}: there is one of that name; revoke it first, or choose another name")
        if len(self.tokens) >= TOKENS_MAX:
            raise Fatal(f"token {token.name}: there are {TOKENS_MAX} tokens already; revoke those that nobody uses")
        return TokenBook((*self.tokens, token))

    def without(self, name: str) -> TokenBook:
        """The book without the token called ``name``. Raises Fatal when there is none."""
        kept = tuple(token for token in self.tokens if token.name != name)
        if len(kept) == len(self.tokens):
            known = ", ".join(token.name for token in self.tokens) or "none"
            raise Fatal(f"token {name}: there is none of that name (there are: {known})")
        return TokenBook(kept)


def hash_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def checked_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """``names`` as scopes. Raises Fatal for one that does not exist, and for none at all."""
    return checked_choices("scope", SCOPES, names, "a token without a scope may do nothing")


def written(book: TokenBook) -> str:
    """The book as its file holds it."""
    tokens = [
        {
            "name": token.name,
            "scopes": token.scopes_in_order,
            "sha256": token.sha256,
            "created_ms": token.created_ms,
            "expires_ms": token.expires_ms,
        }
        for token in book.tokens
    ]
    return json.dumps({"format": _FORMAT, "tokens": tokens}, indent=2) + "\n"


def read_book(text: str, place: str) -> TokenBook:
    """The book in ``text``. Raises Fatal naming ``place`` when it is not what ``written`` makes."""
    try:
        document = json.loads(text)
        if document["format"] != _FORMAT:
            raise ValueError(f"format {document['format']!r}, this Weir reads {_FORMAT!r}")
        return TokenBook(tuple(_token(entry) for entry in document["tokens"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Fatal(f"{place} is not a file of tokens ({error!r}); make it anew with `weir tokens create`") from None


def _token(entry: dict[str, object]) -> Token:
    name, sha256, created_ms, expires_ms = (entry[key] for key in ("name", "sha256", "created_ms", "expires_ms"))
    scopes = entry["scopes"]
    if not isinstance(name, str) or not is_name(name):
        raise ValueError(f"name {name!r}")
    if not isinstance(sha256, str) or not _HASH.fullmatch(sha256):
        raise ValueError(f"sha256 of {name}")
    if type(created_ms) is not int or not (expires_ms is None or type(expires_ms) is int):
        raise ValueError(f"times of {name}")
    if not isinstance(scopes, list) or not set(scopes) <= set(SCOPES):
        raise ValueError(f"scopes of {name}: {scopes!r}")
    return Token(name=name, scopes=frozenset(scopes), sha256=sha256, created_ms=created_ms, expires_ms=expires_ms)
