"""Where a webhook may go: a URL of http or https, and no address that only this machine or its network should reach.

Whoever names a URL makes this process send requests from inside. So loopback and private addresses are only for
subscriptions that say so, and what hands out credentials to whoever asks from inside (link-local addresses: the
metadata services of clouds) is for none. The check is of the address that is connected to, each time: a name that
resolves differently later is caught too. Pure.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from services.mesh.errors import Fatal

URL_CHARACTERS_MAX: Final = 2_000
_PORTS: Final = {"http": 80, "https": 443}
_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


class Target(NamedTuple):
    """A URL's parts as a request needs them."""

    scheme: str
    host: str
    port: int
    path: str  # with the query

    @property
    def host_header(self) -> str:
        """With the port, where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def target_of(url: str, *, private: bool) -> Target:
    """What ``url`` says. Raises Fatal when nothing may be sent there, as far as the URL itself tells."""

    def wrong(why: str) -> Fatal:
        return Fatal(f"url {url[:120]!r}: {why}")

    if not url.isascii() or not url.isprintable() or " " in url or len(url) > URL_CHARACTERS_MAX:
        raise wrong(f"must be at most {URL_CHARACTERS_MAX} printable ASCII characters without blanks")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise wrong(f"{error}; write it as https://host[:port]/path") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise wrong("must be http://... or https://... with a host")
    if parts.username is not None or parts.password is not None:
        raise wrong("holds a user or password, which would stand in logs; the signature says who is calling")
    if parts.fragment:
        raise wrong("a fragment (#...) is never sent; leave it out")
    if refused := refusal_of(parts.hostname, private=private):
        raise wrong(refused)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], path)


def refusal_of(host: str, *, private: bool) -> str:
    """Why nothing may be sent to the address ``host``; empty when it may, and for a name, which is no address."""
    try:
        address = ip_address(host)
    except ValueError:
        if host == "localhost" and not private:
            return "is this machine; if that is meant, allow it: --allow-private"
        return ""
    inner = _inside(address)
    if inner.is_link_local or inner.is_multicast or inner.is_unspecified or (inner.is_reserved and not _is_ours(inner)):
        return f"{host} is a link-local, multicast or reserved address: no webhook may go there"
    if not private and not inner.is_global:
        return f"{host} is an address of this machine or a private network; if that is meant, allow it: --allow-private"
    return ""


def _is_ours(address: IPv4Address | IPv6Address) -> bool:
    """Python counts ::1 as reserved too."""
    return address.is_loopback


def _inside(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for, where it does: the packet ends there."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
