"""The addresses that we listen on ourselves: whoever is sent there comes back to us."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from proxy.core.address import Endpoint
from proxy.core.networks import meanings
from proxy.net import sockopt

_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # compared with, never bound


class Listening:
    """Addresses of open listening sockets; ports that the kernel chose are known as what they are."""

    __slots__ = ("_also", "_binds")

    def __init__(self) -> None:
        self._binds: dict[int, set[str]] = {}
        self._also: set[tuple[str, int]] = set()

    def follow(self, sockets: Iterable[socket.socket]) -> None:
        """These, and no longer those before."""
        self._binds.clear()
        for sock in sockets:
            if sock.family != socket.AF_UNIX and sock.fileno() >= 0:
                self._add(*sock.getsockname()[:2])
        for host, port in self._also:
            self._add(host, port)

    def also(self, host: str, port: int) -> None:
        """This one too, always: somebody else of us listens there."""
        self._also.add((host, port))
        self._add(host, port)

    def holds(self, endpoint: Endpoint) -> bool:
        """Whether dialling ``endpoint`` would lead back here, however its address is written."""
        hosts = self._binds.get(endpoint.port)
        if hosts is None or endpoint.is_unix:
            return False
        everywhere = bool(hosts & _EVERYWHERE)
        spelt = _spellings(endpoint.host)
        return any(host in hosts or (everywhere and sockopt.is_ours(host)) for host in spelt)

    def _add(self, host: str, port: int) -> None:
        self._binds.setdefault(port, set()).add(sockopt.unmapped(host))


def _spellings(host: str) -> list[str]:
    """The address itself, and the IPv4 ones inside it."""
    inside = [value for version, value in meanings(host)[1:] if version == 4]
    return [sockopt.unmapped(host), *(socket.inet_ntoa(value.to_bytes(4, "big")) for value in inside)]
