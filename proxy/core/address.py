"""Addresses, typed by whose they are.

An ``Authority`` is what was asked for (a name or an IP, and a port; RFC 3986 section 3.2). An ``Endpoint`` is
what can be dialled: one numeric IP and port, or the path of a unix socket. What we believe about Fast Open is
kept per endpoint, because the kernel's cookie is per IP while the truth is per port.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple, TypeAlias

_NAME_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")
_LOOKS_NUMERIC = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+)){0,3}\.?\Z")
_NAME_LIMIT = 253


class BadAddress(ValueError):
    """A text that is not an address; its message says what it should have been."""


class Authority(NamedTuple):
    """Who was asked for: ``host`` is a DNS name or a numeric IP without brackets, ``port`` 1..65535."""

    host: str
    port: int

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


class Endpoint(NamedTuple):
    """What is dialled: ``host`` a numeric IP (``%scope`` allowed for IPv6), or a unix path with port 0."""

    host: str
    port: int

    @property
    def is_unix(self) -> bool:
        """Whether this is the path of a unix socket (``@name`` for the abstract namespace)."""
        return self.host[:1] in {"/", "@"}

    @property
    def is_ipv6(self) -> bool:
        """Whether ``host`` is an IPv6 address."""
        return ":" in self.host and not self.is_unix

    def __str__(self) -> str:
        return f"unix:{self.host}" if self.is_unix else join_host_port(self.host, self.port)


Target: TypeAlias = Authority | Endpoint


def join_host_port(host: str, port: int) -> str:
    """``host:port``, with the brackets that IPv6 needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_host_port(text: str) -> tuple[str, int]:
    """The host (brackets taken off) and port (0..65535) of ``host:port``; raises `BadAddress`."""
    host, colon, digits = text.rpartition(":")
    if not colon:
        if text.isdecimal():
            raise BadAddress(f"{text!r} is a port without a host; write host:port, like 127.0.0.1:{text}")
        raise BadAddress(f"{text!r} has no port; write host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        _check_ipv6(host)
    elif ":" in host:
        raise BadAddress(f"{text!r}: an IPv6 address needs brackets, like [::1]:443")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) <= 65535):
        raise BadAddress(f"{text!r}: the port must be a number from 0 to 65535")
    return host, int(digits)


def parse_target(text: str) -> Target:
    """``host:port``, ``[v6]:port`` or ``unix:/path``: an `Endpoint` where it is numeric, else an `Authority`."""
    if text.startswith("unix:"):
        return parse_unix(text)
    host, port = split_host_port(text)
    if port == 0:
        raise BadAddress(f"{text!r}: port 0 cannot be dialled")
    if not host:
        raise BadAddress(f"{text!r} has no host; write host:port")
    if is_numeric(host):
        return Endpoint(normal_ip(host), port)
    return Authority(check_name(host), port)


def parse_unix(text: str) -> Endpoint:
    """``unix:/path`` or ``unix:@abstract`` (the kernel allows 107 bytes); raises `BadAddress`."""
    path = text.removeprefix("unix:")
    if path[:1] not in {"/", "@"} or len(path) < 2:
        raise BadAddress(f"{text!r}: a unix socket is unix:/absolute/path or unix:@name")
    if len(path.encode()) > 107:
        raise BadAddress(f"{text!r}: a unix socket's path may be 107 bytes, this one is {len(path.encode())}")
    return Endpoint(path, 0)


@lru_cache(4096)  # asked for every request, and clients come again
def is_numeric(host: str) -> bool:
    """Whether ``host`` is a canonical numeric IPv4 or IPv6 address (a ``%scope`` is allowed)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def normal_ip(host: str) -> str:
    """The one way to write this IP, so that one endpoint has one standing."""
    return str(ipaddress.ip_address(host))


def check_name(host: str) -> str:
    """``host`` in lower case without its last dot, if it is a name DNS can hold (RFC 1035, underscores allowed).

    Octal, hexadecimal and shortened IPv4 (``0x7f.1``, ``2130706433``) is refused: the C library reads it as an
    address, so it would slip past every rule written for addresses. So is IPv4 in digits and dots of other scripts,
    which become ours when a name is prepared for DNS (RFC 3490 section 3.1, RFC 3491).
    """
    name = host.rstrip(".").lower() if not host.endswith("..") else host
    try:
        wire = name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        raise BadAddress(f"{host!r} is not a valid host name") from None
    if _LOOKS_NUMERIC.match(wire) or _LOOKS_NUMERIC.match(host):
        raise BadAddress(
            f"{host!r} looks like an IPv4 address but is not one; write it as four decimal numbers"
        )
    if not wire or len(wire) > _NAME_LIMIT or not all(_NAME_LABEL.match(label) for label in wire.split(".")):
        raise BadAddress(f"{host!r} is not a valid host name")
    return wire


def _check_ipv6(host: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise BadAddress(f"'[{host}]' is not an IPv6 address") from None
