"""The file of tokens: its mode, its changes, and what happens when it is spoilt."""

from __future__ import annotations

import stat
from pathlib import Path
from threading import Thread

import pytest

from services.mesh.adapters import token_file
from services.mesh.adapters.token_file import TokenFile, change_tokens, read_tokens
from services.mesh.errors import Fatal
from services.mesh.tokens import Token, TokenBook, hash_of


def token(name: str) -> Token:
    return Token(name=name, scopes=frozenset({"decide"}), sha256=hash_of(f"weir_{name}"), created_ms=1)


@pytest.fixture(autouse=True)
def looks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_file, "LOOK_EVERY_S", 0.0)


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    change_tokens(path, lambda book: book.with_token(token("a")))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(Fatal, match="mode 0640 lets other users read or change who may do what; chmod 600"):
        read_tokens(path)


def test_a_change_is_seen_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    file = TokenFile(path)
    assert file.book() == TokenBook()
    change_tokens(path, lambda book: book.with_token(token("a")))
    assert file.book() == TokenBook((token("a"),))
    change_tokens(path, lambda book: book.without("a"))
    assert file.book() == TokenBook()


def test_a_file_that_is_gone_admits_nobody(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    change_tokens(path, lambda book: book.with_token(token("a")))
    file = TokenFile(path)
    assert file.book().tokens
    path.unlink()
    assert file.book() == TokenBook()


def test_a_spoilt_file_admits_nobody_however_often_it_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    change_tokens(path, lambda book: book.with_token(token("a")))
    file = TokenFile(path)
    file.book()
    path.write_text("{")
    for _ in range(3):
        with pytest.raises(Fatal, match="is not a file of tokens"):
            file.book()


def test_a_refused_change_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    change_tokens(path, lambda book: book.with_token(token("a")))
    before = path.read_bytes()
    with pytest.raises(Fatal, match="there is one of that name"):
        change_tokens(path, lambda book: book.with_token(token("a")))
    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"tokens.json", "tokens.json.lock"}


def test_writers_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    names = [f"t{number}" for number in range(12)]
    writers = [
        Thread(target=lambda name=name: change_tokens(path, lambda book: book.with_token(token(name))))
        for name in names
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert {each.name for each in read_tokens(path).tokens} == set(names)


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="cannot write the tokens"):
        change_tokens(tmp_path / "no" / "tokens.json", lambda book: book)
