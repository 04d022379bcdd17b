"""The addresses that we listen on ourselves: what is dialled there comes back to us."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress

from proxy.core.address import Endpoint
from proxy.core.networks import meanings
from proxy.net import own, sockopt

_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # compared with, never bound
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # what Linux dials for it


class Listening:
    """Addresses of open listening sockets, and of the admin; ports that the kernel chose are known as what they are."""

    __slots__ = ("_admin", "_binds", "_paths")

    def __init__(self) -> None:
        self._binds: dict[int, set[str]] = {}
        self._admin: dict[int, set[str]] = {}
        self._paths: set[str] = set()

    def follow(self, sockets: Iterable[socket.socket]) -> None:
        """These listeners, and no longer those before."""
        self._binds.clear()
        for sock in sockets:
            if sock.family != socket.AF_UNIX and sock.fileno() >= 0:
                self.also(*sock.getsockname()[:2])

    def also(self, host: str, port: int) -> None:
        """This listener too, until others are followed; ``*`` is every address."""
        _add(self._binds, host, port)

    def follow_admin(self, binds: Iterable[tuple[str, int]]) -> None:
        """The admin listens here (port 0: a unix socket's path), and no longer where it did before."""
        self._admin.clear()
        self._paths.clear()
        for host, port in binds:
            if host[:1] in {"/", "@"}:
                self._paths.add(host)
            else:
                _add(self._admin, host, port)

    def holds(self, endpoint: Endpoint) -> bool:
        """Whether dialling ``endpoint`` would lead back here, however its address is written."""
        return _holds(self._binds, endpoint) or self.is_admin(endpoint)

    def is_admin(self, endpoint: Endpoint) -> bool:
        """Whether it would lead to the admin, which takes it for somebody of this machine."""
        if endpoint.is_unix:
            return any(_is_same_path(path, endpoint.host) for path in self._paths)
        return _holds(self._admin, endpoint)


def _add(binds: dict[int, set[str]], host: str, port: int) -> None:
    binds.setdefault(port, set()).add("::" if host == "*" else sockopt.unmapped(host))


def _holds(binds: dict[int, set[str]], endpoint: Endpoint) -> bool:
    hosts = binds.get(endpoint.port)
    if hosts is None or endpoint.is_unix:
        return False
    everywhere = bool(hosts & _EVERYWHERE)
    return any(host in hosts or (everywhere and own.is_own(host)) for host in _spellings(endpoint.host))


def _spellings(host: str) -> list[str]:
    """The address itself, and the IPv4 ones inside it."""
    inside = [value for version, value in meanings(host)[1:] if version == 4]
    spelt = [
        sockopt.unmapped(host.partition("%")[0]),
        *(socket.inet_ntoa(value.to_bytes(4, "big")) for value in inside),
    ]
    return [_LOOPBACK.get(one, one) for one in spelt]


def _is_same_path(path: str, other: str) -> bool:
    """Whether two paths of unix sockets name one, by whatever links."""
    if path == other:
        return True
    with suppress(OSError, ValueError):
        return os.path.samefile(path, other)
    return False
