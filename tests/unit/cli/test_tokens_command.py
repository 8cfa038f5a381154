"""``weir tokens``: a secret is shown once, a file is named or lies in a data directory, mistakes are one line."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from services.cli.__main__ import main
from services.mesh.adapters.token_file import read_tokens


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory as a mesh leaves it."""
    (tmp_path / "format").write_text("weir-data 1\n")
    return tmp_path


def test_a_secret_is_printed_once_and_opens_its_token(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["tokens", "create", "shop", "--scopes", "decide, events:write", "--expires", "90d", "--data-dir", str(data)]
    assert main(argv) == 0
    printed = capsys.readouterr()
    secret = printed.out.strip()
    assert "cannot be shown again" in printed.err
    assert secret not in printed.err
    file = data / "tokens.json"
    assert secret not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (token,) = read_tokens(file).tokens
    assert read_tokens(file).holder_of(secret, token.created_ms) == token
    assert (token.scopes, token.expires_ms) == ({"decide", "events:write"}, token.created_ms + 90 * 86_400_000)


def test_tokens_are_listed_without_secrets_and_revoked_by_name(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mesh = ("--data-dir", str(data))
    assert main(["tokens", "list", *mesh]) == 0
    assert "no tokens: nobody may use the gateway" in capsys.readouterr().out
    assert main(["tokens", "create", "shop", "--scopes", "decide", "--json", *mesh]) == 0
    secret = json.loads(capsys.readouterr().out)["secret"]
    assert main(["tokens", "list", "--json", *mesh]) == 0
    text = capsys.readouterr().out
    assert secret not in text
    assert [(token["name"], token["scopes"], token["expired"]) for token in json.loads(text)] == [
        ("shop", ["decide"], False)
    ]
    assert main(["tokens", "list", *mesh]) == 0
    assert capsys.readouterr().out.startswith("shop ")
    assert main(["tokens", "revoke", "shop", *mesh]) == 0
    assert read_tokens(data / "tokens.json").tokens == ()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "Shop", "--scopes", "decide"], "token name 'Shop'"),
        (["create", "shop", "--scopes", "everything"], "scope 'everything' does not exist: name some of"),
        (["create", "shop", "--scopes", ","], "a token without a scope may do nothing"),
        (["create", "shop", "--scopes", "decide", "--expires", "soon"], "--expires='soon'"),
        (["revoke", "shop"], "token shop: there is none of that name"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["tokens", *arguments, "--data-dir", str(data)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert read_tokens(data / "tokens.json").tokens == ()


def test_no_directory_is_made_that_a_mesh_would_then_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "create", "shop", "--scopes", "decide", "--data-dir", str(tmp_path / "data")]) == 1
    assert "is no data directory of a mesh" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
