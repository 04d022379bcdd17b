"""Ask for a name's addresses or a service's servers: the C library in a thread, or dnspython where it is installed.

The C library honours ``/etc/hosts`` and nsswitch but tells no time to live. dnspython (the ``[dns]`` extra,
`net.records`) tells it, knows SRV and other servers than the system's, and asks for both address families at once;
`Hosts` adds ``/etc/hosts``, which it leaves out. Names that only the machine itself may know (``printer``,
``printer.local``) go to the C library always.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from proxy.core.address import Endpoint
from proxy.net.answers import LOOKUP_TIMEOUT, Addresses, LookupFailed, Servers

if TYPE_CHECKING:
    from proxy.net.records import Records

# The C library cannot be interrupted: a look-up that nobody waits for any more keeps its thread until it is over. So a
# zone whose servers are slow has a few threads, and zones that have not yet answered have no more than these together.
_THREADS, _THREADS_OF_STRANGERS = 16, 24
_THREADS_A_ZONE = 4
_MOST_ZONES = 1024


def has_dnspython() -> bool:
    """Whether the ``[dns]`` extra is installed; it is not loaded before it is needed."""
    return importlib.util.find_spec("dns") is not None


class Names:
    """Looks names up, without remembering anything. ``servers``: instead of the system's."""

    def __init__(self, servers: Iterable[Endpoint] = (), hosts: str = "/etc/hosts") -> None:
        self._servers = tuple(servers)
        self._hosts = Hosts(hosts)
        self._threads = trio.CapacityLimiter(_THREADS)
        self._strangers = trio.CapacityLimiter(_THREADS_OF_STRANGERS)
        self._zones: dict[str, _Zone] = {}
        self._records: Records | None = None
        self._has_dnspython = has_dnspython()

    async def addresses(self, name: str) -> Addresses:
        """The addresses of ``name``, without the search list where it ends with a dot; raises `LookupFailed`."""
        if not self._has_dnspython or (not self._servers and _is_local(name)):
            # The C library finds no name with a last dot in /etc/hosts.
            if name.endswith(".") and (fixed := self._hosts.find(name)):
                return Addresses(_ranked(fixed), None)
            return await self._ask_system(name)
        with trio.move_on_after(LOOKUP_TIMEOUT):
            fixed = self._hosts.find(name)
            if fixed:
                return Addresses(_ranked(fixed), None)
            hosts, ttl = await (await self._dns()).addresses(name)
            return Addresses(_ranked(hosts), ttl)
        raise LookupFailed(f"{name}: no answer within {LOOKUP_TIMEOUT:g} s")

    async def servers(self, name: str) -> Servers:
        """The servers of the service ``name``; raises `LookupFailed`."""
        if not self._has_dnspython:
            raise LookupFailed(f"{name}: SRV records need dnspython; install tfo-proxy[dns]")
        with trio.move_on_after(LOOKUP_TIMEOUT):
            return await (await self._dns()).servers(name)
        raise LookupFailed(f"{name}: no answer within {LOOKUP_TIMEOUT:g} s")

    async def _dns(self) -> Records:
        """What asks DNS; loaded and set up beside the event loop, since that takes a while."""
        if self._records is None:
            self._records = await trio.to_thread.run_sync(_records, self._servers)
        return self._records

    async def _ask_system(self, name: str) -> Addresses:
        zone = self._zone(name)
        asking = _Asking(name, zone)
        threads = self._threads if zone.answers else self._strangers
        try:
            with trio.move_on_after(LOOKUP_TIMEOUT):
                await zone.limiter.acquire_on_behalf_of(asking)
                hosts = await trio.to_thread.run_sync(asking.run, abandon_on_cancel=True, limiter=threads)
                zone.answers = True
                return Addresses(hosts, None)
        except OSError as error:
            lasting = error.errno in {socket.EAI_NONAME, socket.EAI_NODATA}
            zone.answers = zone.answers or lasting
            raise LookupFailed(f"{name}: {error.strerror or error}", lasting=lasting) from None
        finally:
            if not asking.began:
                asking.release()
        if not asking.began:
            raise LookupFailed(
                f"{name}: it could not be asked for within {LOOKUP_TIMEOUT:g} s: too many others are slow"
            )
        zone.answers = False
        raise LookupFailed(f"{name}: no answer within {LOOKUP_TIMEOUT:g} s")

    def _zone(self, name: str) -> _Zone:
        """What all names that end alike have in common."""
        ending = ".".join(name.removesuffix(".").split(".")[-2:])
        zone = self._zones.get(ending)
        if zone is None:
            if len(self._zones) >= _MOST_ZONES:
                idle = [ending for ending, one in self._zones.items() if not one.limiter.borrowed_tokens]
                for one in idle[: _MOST_ZONES // 2]:
                    del self._zones[one]
            zone = self._zones[ending] = _Zone()
        return zone


class _Zone:
    """Names that end alike, and are likely to be as quick."""

    __slots__ = ("answers", "limiter")

    def __init__(self) -> None:
        self.limiter = trio.CapacityLimiter(_THREADS_A_ZONE)
        self.answers = False  # the last look-up did not run out of time


class _Asking:
    """One look-up in a thread; its place in the zone is free again when the thread is, whoever still waits for it."""

    __slots__ = ("_name", "_token", "_zone", "began")

    def __init__(self, name: str, zone: _Zone) -> None:
        self._name = name
        self._zone: _Zone | None = zone
        self._token = trio.lowlevel.current_trio_token()
        self.began = False

    def run(self) -> tuple[str, ...]:
        """Ask; in the thread."""
        self.began = True
        try:
            return _getaddrinfo(self._name)
        finally:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self.release)

    def release(self) -> None:
        """Leave the zone, once."""
        zone, self._zone = self._zone, None
        if zone is not None:
            with suppress(RuntimeError):  # it was still waiting for its place
                zone.limiter.release_on_behalf_of(self)


class Hosts:
    """``/etc/hosts`` (hosts(5)), read again when it has changed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._names: dict[str, list[str]] = {}

    def find(self, name: str) -> list[str]:
        """The addresses it has for ``name``."""
        try:
            status = os.stat(self._path)
            seen = status.st_mtime_ns, status.st_size
            if seen != self._seen:
                with open(self._path, encoding="utf-8", errors="replace") as file:
                    self._names = _parse_hosts(file.read(1 << 20))
                self._seen = seen
        except OSError:
            return []
        return self._names.get(name.lower().removesuffix("."), [])


def _parse_hosts(text: str) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *aliases = line.partition("#")[0].split() or [""]
        try:
            host = str(ipaddress.ip_address(address))
        except ValueError:
            continue
        for alias in aliases:
            known = names.setdefault(alias.lower().rstrip("."), [])
            if host not in known:
                known.append(host)
    return names


def _records(servers: tuple[Endpoint, ...]) -> Records:
    from proxy.net.records import Records  # noqa: PLC0415  # an extra, and slow to load

    return Records(servers)


def _is_local(name: str) -> bool:
    bare = name.removesuffix(".")
    return "." not in bare or bare.endswith((".local", ".localhost"))


def _getaddrinfo(name: str) -> tuple[str, ...]:
    rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(row[4][0]) for row in rows))


def _ranked(hosts: Iterable[str]) -> tuple[str, ...]:
    """IPv6 first where there is a way to it, as getaddrinfo(3) has it."""

    def rank(host: str) -> int:
        return (1 if ":" in host else 2) if _is_routed(host) else 3

    return tuple(sorted(dict.fromkeys(hosts), key=rank))


def _is_routed(host: str) -> bool:
    """Whether the kernel knows a way there: connecting a datagram socket sends nothing."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((host, 53))
    except OSError:
        return False
    return True
