"""What a client asks for before its session has anywhere to go, and the words in which it is answered.

Every way in is a parser (`core.reader`) that ends in an `Opening`: a `Request`, or a `Turn` where the protocol wants
an answer before it says more. When a request is granted is not the parser's business: `proxy.sessions.session` decides.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from proxy.core.address import Authority, BadAddress, Endpoint, Target, check_name, is_numeric
from proxy.core.framing import Body
from proxy.core.outcomes import EndedBy, Reason
from proxy.core.reader import Parser, Reader

__all__ = [
    "Credentials", "Forwarded", "Opening", "OpeningParser", "Refused", "Request", "Turn", "gone_early", "target_of",
    "too_slow",
]  # fmt: skip


_BLAMED = {Reason.HANDSHAKE_TIMEOUT: EndedBy.TIMEOUT, Reason.NO_REQUEST: EndedBy.DOWNSTREAM}


class Refused(Exception):
    """The client is told no; ``reply`` are the bytes that say so in its protocol, ``str()`` says it in the log."""

    def __init__(self, reason: Reason, detail: str = "", reply: bytes = b"") -> None:
        super().__init__(detail)
        self.reason = reason
        self.reply = reply

    @property
    def blame(self) -> EndedBy:
        """Whose act it was."""
        return _BLAMED.get(self.reason, EndedBy.PROXY)


def too_slow() -> Refused:
    """Why a client is sent away that has not said in time where to go."""
    return Refused(Reason.HANDSHAKE_TIMEOUT, "the client did not say where to go")


def gone_early() -> Refused:
    """Why nothing comes of one that ended before."""
    return Refused(Reason.NO_REQUEST, "the client left before it said where to go")


class Credentials(NamedTuple):
    """Who a client says it is; not checked yet."""

    user: str
    password: str


@dataclass(slots=True)
class Forwarded:
    """A plain HTTP request that is forwarded: what its response has to be rewritten by."""

    method: bytes
    minor: int  # of the client's HTTP version: 0 or 1
    keep: bool  # whether the client wants its connection to stay open
    upgrade: bool  # whether it asks for another protocol
    body: Body  # of the request, as far as it has not been taken


def _nothing_to_say(reason: Reason, detail: str) -> bytes:  # noqa: ARG001  # the shape of `Request.refused`
    return b""


@dataclass(frozen=True, slots=True)
class Request:
    """Where a client wants to go."""

    protocol: str  # it asked in: socks4, socks5, connect, http, tls; "" where it said nothing
    authority: Target | None = None  # None: where the listener says
    early: bytes = b""  # first bytes for the upstream that the request itself consists of
    granted: bytes = (
        b""  # what the client is told once it is connected; nothing where it does not wait for that
    )
    refused: Callable[[Reason, str], bytes] = _nothing_to_say  # the reply that says why not, in few words
    user: str | None = None  # as whom it has authenticated itself
    sni: str | None = None  # the name in its ClientHello
    http: Forwarded | None = (
        None  # `early` is the head of a plain HTTP request; None: bytes are relayed as they are
    )
    via: bytes = b""  # the proxies that a CONNECT came through, as its Via fields name them


@dataclass(frozen=True, slots=True)
class Turn:
    """The client is told something and goes on; with ``credentials`` only where they hold."""

    reply: bytes
    proceed: Callable[[str | None], OpeningParser]  # given the user's name once the credentials hold
    credentials: Credentials | None = None
    rejected: bytes = b""  # the reply where they do not hold


Opening: TypeAlias = Request | Turn
OpeningParser: TypeAlias = Callable[[Reader], Parser[Opening]]


_LONGEST_HOST = 255  # characters: no name in DNS has more bytes (RFC 1035, 2.3.4), no address as many


def target_of(host: str, port: int) -> Target:
    """The destination that a client named; raises `BadAddress`.

    A name is in normal form (`check_name`), so that no spelling of it slips past a rule.
    An IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2) becomes the IPv4 address, so that rules for one hold for the other.
    The length is checked first: what comes behind keeps hosts in caches, which have bounds in entries.
    """
    if len(host) > _LONGEST_HOST:
        raise BadAddress(f"the host name is longer than {_LONGEST_HOST} bytes")
    if not 0 < port <= 65535:
        raise BadAddress(f"{port} is not a port that can be dialled")
    return Endpoint(_normal(host), port) if is_numeric(host) else Authority(check_name(host), port)


@lru_cache(4096)  # clients come again
def _normal(host: str) -> str:
    if "%" in host:
        raise BadAddress(f"{host!r} has a scope, which means nothing to anybody but its owner")
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)
