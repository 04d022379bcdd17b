"""Ask for a name's addresses or a service's servers, without remembering anything.

Where the system's resolver is wanted (``dns.servers: system``) the C library is asked, in a thread: it goes by
nsswitch.conf(5), ``/etc/hosts``, mDNS and resolv.conf(5), and notices when they change; it tells no time to live. Other
servers are asked by dnspython (`net.records`), which tells it; so are SRV records. `Hosts` adds ``/etc/hosts``. Names
that only the machine itself may know (``printer``, ``printer.local``) go to the C library always.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from proxy.core.address import Endpoint
from proxy.net.answers import MOST_ADDRESSES, Addresses, LookupFailed, Servers, of_both_families

if TYPE_CHECKING:
    from proxy.net.records import Records

# The C library cannot be interrupted: a look-up keeps its thread until it is over. How many there are is the cache's to
# say (`net.resolve`), so that threads never wait for each other.
_NO_LIMIT = 4096
_RESOLV_CONF = "/etc/resolv.conf"


class Names:
    """Looks names up. ``servers``: instead of the system's."""

    def __init__(
        self, servers: Iterable[Endpoint] = (), hosts: str = "/etc/hosts", resolv_conf: str = _RESOLV_CONF
    ) -> None:
        self._servers = tuple(servers)
        self._hosts = Hosts(hosts)
        self._resolv_conf = resolv_conf
        self._threads = trio.CapacityLimiter(_NO_LIMIT)
        self._records: Records | None = None
        self._seen: object = None  # of resolv.conf, when `_records` was made
        if self._servers:
            with suppress(RuntimeError):  # where trio does not run yet, the first look-up loads dnspython
                trio.lowlevel.spawn_system_task(self._load)

    @property
    def uses_threads(self) -> bool:
        """Whether look-ups of addresses take threads."""
        return not self._servers

    def patience(self) -> float:
        """How many seconds an answer is waited for: until each server has been asked once, at least."""
        return max(5.0, 2.5 * len(self._servers)) + 0.5 if self._servers else _patience(self._resolv_conf)

    async def addresses(self, name: str, on_part: Callable[[Addresses], None]) -> Addresses:
        """The addresses of ``name``, without the search list where it ends with a dot; raises `LookupFailed`.

        ``on_part`` is told of one address family where the other takes longer.
        """
        system = not self._servers or _is_local(name)
        # The C library finds no name with a last dot in /etc/hosts, dnspython none at all.
        if (not system or name.endswith(".")) and (fixed := self._hosts.find(name)):
            return Addresses(_ranked(fixed), None)
        if system:
            return await self._ask_system(name, on_part)
        records = await self._dns()
        answer = await records.addresses(name, lambda part: on_part(_in_order(part)))
        return _in_order(answer)

    async def servers(self, name: str) -> Servers:
        """The servers of the service ``name``; raises `LookupFailed`."""
        return await (await self._dns()).servers(name)

    async def _load(self) -> None:
        with suppress(LookupFailed, trio.RunFinishedError):
            await self._dns()

    async def _dns(self) -> Records:
        """What asks DNS; made beside the event loop, since that takes a while, and anew when resolv.conf changes."""
        seen = None if self._servers else _stamp(self._resolv_conf)
        if self._records is None or seen != self._seen:
            self._records = await trio.to_thread.run_sync(_records, self._servers, self._resolv_conf)
            self._seen = seen
        return self._records

    async def _ask_system(self, name: str, on_part: Callable[[Addresses], None]) -> Addresses:
        """A name that is completed from the search list is one question: the families must not find different ones."""
        if not name.endswith("."):
            return _in_order(await self._getaddrinfo(name, socket.AF_UNSPEC))

        async def ask(is_ipv6: bool) -> Addresses:
            return await self._getaddrinfo(name, socket.AF_INET6 if is_ipv6 else socket.AF_INET)

        return _in_order(await of_both_families(ask, lambda part: on_part(_in_order(part))))

    async def _getaddrinfo(self, name: str, family: int) -> Addresses:
        try:
            hosts = await trio.to_thread.run_sync(
                _getaddrinfo, name, family, abandon_on_cancel=True, limiter=self._threads
            )
        except OSError as error:
            lasting = error.errno in {socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY}
            raise LookupFailed(f"{name}: {error.strerror or error}", lasting=lasting) from None
        except UnicodeError as error:  # a label that Python does not encode
            raise LookupFailed(f"{name}: {error}", lasting=True) from None
        return Addresses(hosts, None)


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


def _records(servers: tuple[Endpoint, ...], resolv_conf: str) -> Records:
    from proxy.net.records import Records  # noqa: PLC0415  # slow to load

    return Records(servers, resolv_conf)


def _is_local(name: str) -> bool:
    bare = name.removesuffix(".")
    return "." not in bare or bare.endswith((".local", ".localhost"))


def _getaddrinfo(name: str, family: int) -> tuple[str, ...]:
    rows = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(row[4][0]) for row in rows[: 2 * MOST_ADDRESSES]))


def _in_order(answer: Addresses) -> Addresses:
    return answer._replace(hosts=_ranked(answer.hosts))


def _ranked(hosts: Iterable[str]) -> tuple[str, ...]:
    """IPv6 first where there is a way to it, as getaddrinfo(3) has it; no more of each family than are kept."""
    distinct = dict.fromkeys(hosts)
    kept: list[str] = []
    for is_ipv6 in (True, False):
        kept += [host for host in distinct if (":" in host) is is_ipv6][: MOST_ADDRESSES // 2]
    kept += [host for host in distinct if host not in kept][: MOST_ADDRESSES - len(kept)]

    def rank(host: str) -> int:
        return (1 if ":" in host else 2) if _is_routed(host) else 3

    return tuple(sorted(kept, key=rank))


def _is_routed(host: str) -> bool:
    """Whether the kernel knows a way there: connecting a datagram socket sends nothing."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((host, 53))
    except OSError:
        return False
    return True


def _stamp(path: str) -> object:
    """What changes when a file does; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


_SERVER = re.compile(r"^[ \t]*nameserver[ \t]", re.MULTILINE)
_TIMEOUT = re.compile(r"^[ \t]*options\b[^\n]*\btimeout:(\d{1,3})", re.MULTILINE)
_DEFAULT_TIMEOUT, _MOST_TIMEOUT, _MOST_SERVERS = 5, 30, 3  # RES_TIMEOUT, RES_MAXRETRANS, MAXNS of resolv.h


def _patience(path: str) -> float:
    """Seconds in which the C library has asked each server of resolv.conf(5) once, and somewhat more."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(1 << 16)
    except OSError:
        text = ""
    found = _TIMEOUT.findall(text)
    timeout = min(int(found[-1]), _MOST_TIMEOUT) if found else _DEFAULT_TIMEOUT
    servers = min(max(len(_SERVER.findall(text)), 1), _MOST_SERVERS)
    return max(timeout, 1) * servers + 1.0
