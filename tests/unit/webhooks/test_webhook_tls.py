"""Webhooks over TLS, to a real server on this machine: only whom the certificate names is told anything.

The resolver alone is a test's own, because the names must lead here.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from private_ca import Authority

from services.mesh.errors import Fatal
from services.webhooks.posting import Poster
from services.webhooks.signature import secret_of
from services.webhooks.subscription import Secret, Subscription
from services.webhooks.tls import trust
from services.webhooks.verdict import Answer, Verdict

HOST = "bank.example"
HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
METADATA = "169.254.169.254"  # where clouds hand out credentials


class Server:
    """Answers 204 to whatever it is sent over TLS, and remembers who was asked for and what was said."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.connections = 0
        self.names: list[str | None] = []
        self.requests: list[bytes] = []
        self._tls = tls
        tls.sni_callback = lambda _, name, __: self.names.append(name)

    async def listen(self, address: str = HERE, port: int = 0) -> int:
        """Its port."""
        self._server = await asyncio.start_server(self._serve, address, port, ssl=self._tls)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = next(
                    int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
                )
                self.requests.append(head + await reader.readexactly(size))
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass  # whoever asked has left
        finally:
            writer.close()


class Names:
    """The resolver: each look-up of ``HOST`` gets the next answer, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[str] = [HERE]
        self.asked = 0

    async def look_up(self, host: Any, port: Any, **how: Any) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else host
        if name == HOST:
            address = self.answers[min(self.asked, len(self.answers) - 1)]
            self.asked += 1
        else:
            address = name  # an address leads to itself
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    found = Names()
    monkeypatch.setattr(
        asyncio.BaseEventLoop, "getaddrinfo", lambda loop, host, port, **how: found.look_up(host, port, **how)
    )
    return found


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def poster(port: int, ca_file: Path | None, *, host: str = HOST, private: bool = True) -> Poster:
    subscription = Subscription(
        name="bank",
        url=f"https://{host}:{port}/hooks",
        actions=frozenset({"decline"}),
        secrets=(Secret(text=secret_of(b"k" * 32)),),
        created_ms=1,
        since_ms=1,
        changed_ms=1,
        private=private,
    )
    return Poster(subscription, 5.0, 1, trust(ca_file))


async def told(poster: Poster) -> Answer:
    try:
        return await poster.post("msg_1", b"{}")
    finally:
        await poster.close()


async def served(server: Server, ask: Callable[[int], Awaitable[Answer]]) -> Answer:
    port = await server.listen()
    try:
        return await ask(port)
    finally:
        await server.close()


@pytest.mark.usefixtures("names")
def test_a_receiver_of_a_private_authority_that_is_trusted_is_told(authority: Authority) -> None:
    server = Server(authority.server_context(HOST))
    answer = asyncio.run(served(server, lambda port: told(poster(port, authority.file))))
    assert (answer.verdict, answer.status) == (Verdict.TAKEN, 204)
    assert server.names == [HOST], "the server is told the URL's name, whatever address it has"
    (request,) = server.requests
    assert request.endswith(b"\r\n\r\n{}")
    assert b"\r\nhost: bank.example:" in request


@pytest.mark.usefixtures("names")
def test_what_the_machine_trusts_can_be_named_as_for_every_program(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    server = Server(authority.server_context(HOST))
    assert asyncio.run(served(server, lambda port: told(poster(port, None)))).verdict is Verdict.TAKEN


def unknown(directory: Path, authority: Authority) -> ssl.SSLContext:
    return Authority(directory, "somebody else").server_context(HOST)


def expired(directory: Path, authority: Authority) -> ssl.SSLContext:
    return authority.server_context(HOST, expired=True)


def of_another_name(directory: Path, authority: Authority) -> ssl.SSLContext:
    return authority.server_context("shop.example")


def of_the_address(directory: Path, authority: Authority) -> ssl.SSLContext:
    return authority.server_context(HERE)


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    ("which", "said"),
    [
        (unknown, "unable to get local issuer certificate; if its authority is to be trusted, name it: WEIR_WEBHOOKS_"),
        (expired, "certificate has expired"),
        (of_another_name, f"Hostname mismatch, certificate is not valid for '{HOST}'"),
        (of_the_address, f"Hostname mismatch, certificate is not valid for '{HOST}'"),
    ],
)
def test_a_wrong_certificate_is_told_nothing_and_asked_again_later(
    which: Callable[[Path, Authority], ssl.SSLContext], said: str, authority: Authority, tmp_path: Path
) -> None:
    server = Server(which(tmp_path, authority))
    answer = asyncio.run(served(server, lambda port: told(poster(port, authority.file))))
    assert (answer.verdict, answer.status) == (Verdict.FAILED, 0), "no answer: it is repeated, and counted as such"
    assert str(answer).startswith(f"no answer: its certificate is refused: {said}")
    assert server.requests == []


def test_an_address_in_the_url_is_checked_as_an_address(names: Names, authority: Authority) -> None:
    right, wrong = Server(authority.server_context(HERE)), Server(authority.server_context(HOST))
    answers = [
        asyncio.run(served(server, lambda port: told(poster(port, authority.file, host=HERE))))
        for server in (right, wrong)
    ]
    assert [answer.verdict for answer in answers] == [Verdict.TAKEN, Verdict.FAILED]
    assert "certificate is refused: IP address mismatch" in str(answers[1])


@pytest.mark.parametrize(("address", "private"), [(HERE, False), ("10.1.2.3", False), (METADATA, True)])
def test_a_good_certificate_opens_no_forbidden_address(
    names: Names, authority: Authority, address: str, private: bool
) -> None:
    names.answers = [address]
    server = Server(authority.server_context(HOST))
    answer = asyncio.run(served(server, lambda port: told(poster(port, authority.file, private=private))))
    assert answer.verdict is Verdict.FAILED
    assert address in str(answer)
    assert (server.connections, server.names) == (0, []), "nobody was even greeted"


def test_the_address_that_was_looked_at_is_the_one_that_is_connected_to(names: Names, authority: Authority) -> None:
    """A name that leads elsewhere a moment later (DNS rebinding), to a server that could show a good certificate."""
    names.answers = [HERE, ELSEWHERE]
    looked_at, later = Server(authority.server_context(HOST)), Server(authority.server_context(HOST))

    async def ask(port: int) -> Answer:
        await later.listen(ELSEWHERE, port)
        try:
            return await told(poster(port, authority.file))
        finally:
            await later.close()

    assert asyncio.run(served(looked_at, ask)).verdict is Verdict.TAKEN
    assert (looked_at.connections, later.connections, names.asked) == (1, 0, 1)


def test_a_name_that_moves_to_a_forbidden_address_is_caught_at_the_next_connection(
    names: Names, authority: Authority
) -> None:
    names.answers = [HERE, METADATA]
    server = Server(authority.server_context(HOST))

    async def ask(port: int) -> Answer:
        assert (await told(poster(port, authority.file))).verdict is Verdict.TAKEN
        return await told(poster(port, authority.file))

    assert METADATA in str(asyncio.run(served(server, ask)))
    assert server.connections == 1


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_file_of_authorities_that_is_none_is_one_line(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Fatal, match=r"WEIR_WEBHOOKS_CA_FILE=.*ca\.pem: .+; must be a file of certificates in PEM"):
        trust(file)
