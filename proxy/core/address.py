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

import idna

_NAME_LABEL = re.compile(r"[a-z0-9_-]{1,63}\Z")
_LOOKS_NUMERIC = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+)){0,3}\.?\Z")
_NAME_LIMIT = 253  # characters of a name without its last dot (RFC 1035, 2.3.4)
_LONGEST_NUMERIC = 64  # an IPv6 address has up to 45 characters, an interface's name up to 15
_DOTS = (".", "\u3002", "\uff0e", "\uff61")  # what separates labels (UTS 46, section 4)


class BadAddress(ValueError):
    """A text that is not an address; its message says what it should have been."""


class Authority(NamedTuple):
    """Who was asked for: ``host`` is a DNS name in normal form (`check_name`), ``port`` 1..65535.

    In the configuration, ``host`` may end with a dot: it is looked up without the resolver's search list.
    """

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
    """``host:port``, ``[v6]:port`` or ``unix:/path``: an `Endpoint` where it is numeric, else an `Authority`.

    A name keeps its last dot, which says that the resolver's search list is not for it.
    """
    if text.startswith("unix:"):
        return parse_unix(text)
    host, port = split_host_port(text)
    if port == 0:
        raise BadAddress(f"{text!r}: port 0 cannot be dialled")
    if not host:
        raise BadAddress(f"{text!r} has no host; write host:port")
    if is_numeric(host):
        return Endpoint(normal_ip(host), port)
    return Authority(check_name(host) + ("." if is_absolute(host) else ""), port)


def parse_unix(text: str) -> Endpoint:
    """``unix:/path`` or ``unix:@abstract`` (the kernel allows 107 bytes); raises `BadAddress`."""
    path = text.removeprefix("unix:")
    if path[:1] not in {"/", "@"} or len(path) < 2:
        raise BadAddress(f"{text!r}: a unix socket is unix:/absolute/path or unix:@name")
    if len(path.encode()) > 107:
        raise BadAddress(f"{text!r}: a unix socket's path may be 107 bytes, this one is {len(path.encode())}")
    return Endpoint(path, 0)


def is_numeric(host: str) -> bool:
    """Whether ``host`` is a canonical numeric IPv4 or IPv6 address (a ``%scope`` is allowed)."""
    return len(host) <= _LONGEST_NUMERIC and _is_numeric(host)


@lru_cache(4096)  # asked for every request, and clients come again
def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def normal_ip(host: str) -> str:
    """The one way to write this IP, so that one endpoint has one standing."""
    return str(ipaddress.ip_address(host))


def check_name(host: str) -> str:
    """The normal form of a host name: in lower case, without its last dot, in ASCII. Raises `BadAddress`.

    A name is what DNS can hold: labels of 1 to 63 letters, digits, hyphens and underscores, 253 characters in all.
    Other scripts are encoded as UTS 46 says (non-transitional, so ``faß`` is ``xn--fa-hia``), as browsers and curl do;
    what it would leave out without a trace, like U+200B in front of ``localhost``, is refused.

    Octal, hexadecimal and shortened IPv4 (``0x7f.1``, ``2130706433``) is refused, also in digits and dots of other
    scripts: the C library reads it as an address, so it would slip past every rule written for addresses.
    """
    if len(host) > _NAME_LIMIT + 1:
        raise BadAddress(
            f"{host[:32] + '...'!r} has {len(host)} characters; a host name has at most {_NAME_LIMIT}"
        )
    name = host.lower() if host.isascii() else _in_ascii(host)
    name = name.removesuffix(".")
    if _LOOKS_NUMERIC.match(name):
        raise BadAddress(
            f"{host!r} looks like an IPv4 address but is not one; write it as four decimal numbers"
        )
    if len(name) > _NAME_LIMIT or not all(map(_NAME_LABEL.match, name.split("."))):
        raise BadAddress(f"{host!r} is not a valid host name")
    return name


def is_absolute(host: str) -> bool:
    """Whether a name ends with a dot: then it is looked up as it stands, without the resolver's search list."""
    return host.endswith(_DOTS)


def _in_ascii(host: str) -> str:
    """``host`` with each label that is not ASCII encoded (UTS 46, section 4: ToASCII, non-transitional)."""
    try:
        if not all(map(_leaves_something, host)):
            raise BadAddress(f"{host!r} has an invisible character")
        mapped = idna.uts46_remap(host, std3_rules=False, transitional=False)
        return ".".join(label if label.isascii() else _a_label(label) for label in mapped.split("."))
    except UnicodeError as error:  # idna.IDNAError is one
        raise BadAddress(f"{host!r} is not a valid host name: {error}") from None


def _leaves_something(char: str) -> bool:
    return char.isascii() or bool(idna.uts46_remap(char, std3_rules=False, transitional=False))


def _a_label(label: str) -> str:
    """The A-label of a mapped label, if it is valid by UTS 46, section 4.1; else raises UnicodeError.

    Symbols are valid there that IDNA 2008 has no more, like those of emoji names, which are in use.
    """
    if len(label) > 63 or label[2:4] == "--":
        raise UnicodeError("a label too long, or with hyphens in the third and fourth place")
    idna.check_initial_combiner(label)
    idna.check_bidi(label)
    for at, char in enumerate(label):
        if char in "\u200c\u200d" and not idna.valid_contextj(label, at):
            raise UnicodeError(f"U+{ord(char):04X} where it joins nothing")
    return "xn--" + label.encode("punycode").decode("ascii")


def _check_ipv6(host: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise BadAddress(f"'[{host}]' is not an IPv6 address") from None
