"""``weir webhooks``: secrets are shown once, mistakes are one line, the file says what was asked for."""

from __future__ import annotations

import json
import stat
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from services.cli.__main__ import main
from services.webhooks.signature import is_signed, key_of
from services.webhooks.subscription_file import load_subscriptions

URL = "https://bank.example/hooks"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory as a mesh leaves it."""
    (tmp_path / "format").write_text("weir-data 1\n")
    return tmp_path


def run(data: Path, *arguments: str) -> int:
    return main(["webhooks", *arguments, "--data-dir", str(data)])


def test_a_secret_is_printed_once_and_kept_for_nobody_else(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, "add", "bank", URL) == 0
    printed = capsys.readouterr()
    secret = printed.out.strip()
    assert "is not shown again" in printed.err
    assert secret not in printed.err
    file = data / "webhooks.yaml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (one,) = load_subscriptions(file).all
    assert one.keys(0) == [key_of(secret)]
    assert (one.actions, one.private, one.since_ms) == ({"decline", "review"}, False, one.created_ms)
    assert run(data, "list", "--json") == 0
    text = capsys.readouterr().out
    assert secret not in text
    (listed,) = json.loads(text)
    assert (listed["name"], listed["url"], listed["actions"], listed["secrets"], listed["group"]) == (
        "bank", URL, ["review", "decline"], 1, "webhooks-bank",
    )  # fmt: skip


def test_a_subscription_is_changed_paused_rotated_and_removed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = data / "webhooks.yaml"
    assert run(data, "list") == 0
    assert "no webhooks: nobody is told" in capsys.readouterr().out
    assert run(data, "add", "bank", URL, "--from", "beginning", "--json") == 0
    old = json.loads(capsys.readouterr().out)["secret"]
    (one,) = load_subscriptions(file).all
    assert one.since_ms == 0
    assert run(data, "change", "bank", "--url", "http://10.0.0.5/x", "--allow-private", "--actions", "decline") == 0
    assert run(data, "pause", "bank") == 0
    (changed,) = load_subscriptions(file).all
    assert (changed.url, changed.private, changed.paused, changed.actions) == (
        "http://10.0.0.5/x", True, True, {"decline"},
    )  # fmt: skip
    assert (changed.created_ms, changed.changed_ms >= one.changed_ms) == (one.created_ms, True)
    capsys.readouterr()
    assert run(data, "list") == 0
    assert capsys.readouterr().out.strip().endswith("PAUSED")
    assert run(data, "resume", "bank") == 0
    assert run(data, "rotate", "bank", "--overlap", "1h", "--json") == 0
    new = json.loads(capsys.readouterr().out.partition("\n")[2])["secret"]
    (rotated,) = load_subscriptions(file).all
    assert rotated.keys(rotated.changed_ms) == [key_of(new), key_of(old)]
    assert run(data, "remove", "bank") == 0
    assert load_subscriptions(file).all == ()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "Bank", URL], "webhook name 'Bank'"),
        (["add", "bank", "bank.example"], "must be http://... or https://... with a host"),
        (["add", "bank", "http://localhost:9000/"], "allow it: --allow-private"),
        (["add", "bank", "http://169.254.169.254/", "--allow-private"], "no webhook may go there"),
        (["add", "bank", URL, "--actions", "block"], "action 'block' does not exist: name some of"),
        (["add", "bank", URL, "--actions", ","], "a webhook without an action is told nothing"),
        (["add", "taken", URL], "there is one of that name; change it with `weir webhooks change`"),
        (["change", "bank", "--actions", "review"], "there is none of that name (there are: taken)"),
        (["change", "taken"], "nothing to change"),
        (["change", "taken", "--url", "http://127.0.0.1/"], "allow it: --allow-private"),
        (["rotate", "taken", "--overlap", "soon"], "--overlap"),
        (["remove", "bank"], "there is none of that name"),
        (["test", "bank"], "there is none of that name"),
        (["dead"], "no mesh runs on"),
        (["redeliver", "taken"], "no mesh runs on"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    run(data, "add", "taken", URL)
    before = (data / "webhooks.yaml").read_bytes()
    capsys.readouterr()
    assert run(data, *arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert (data / "webhooks.yaml").read_bytes() == before


def test_no_file_is_left_where_no_mesh_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "add", "bank", URL) == 1
    assert "is no data directory of a mesh" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


class Heard(BaseHTTPRequestHandler):
    """One request; the server has the status to answer."""

    def do_POST(self) -> None:
        self.server.body = self.rfile.read(int(self.headers["Content-Length"]))  # type: ignore[attr-defined]
        self.server.told = {name.lower(): value for name, value in self.headers.items()}  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.parametrize("status", [204, 302, 401])
def test_a_trial_says_whether_it_was_taken(data: Path, capsys: pytest.CaptureFixture[str], status: int) -> None:
    with HTTPServer(("127.0.0.1", 0), Heard) as server:
        server.status = status  # type: ignore[attr-defined]
        Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        assert run(data, "add", "here", url, "--allow-private", "--json") == 0
        secret = json.loads(capsys.readouterr().out)["secret"]
        assert run(data, "test", "here") == (0 if status == 204 else 1)
        printed = capsys.readouterr()
        if status == 204:
            assert printed.out == "here took it: 204\n"
        else:
            assert f"answered {status}; a receiver takes a message by answering 2xx" in printed.err
        told, body = server.told, server.body  # type: ignore[attr-defined]
        assert is_signed([key_of(secret)], told, body, int(told["webhook-timestamp"]))
        assert json.loads(body)["type"] == "webhook.test"


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.0.0.1"])
def test_an_address_is_looked_at_when_it_is_connected_to(
    data: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    """No addresses as far as the URL tells; the resolver takes them for loopback."""
    assert run(data, "add", "sly", f"http://{host}:1/") == 0
    capsys.readouterr()
    assert run(data, "test", "sly") == 1
    assert "is an address of this machine or a private network" in capsys.readouterr().err
