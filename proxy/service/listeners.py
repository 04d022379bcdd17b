"""The listening sockets of the whole program: opened all or none, and kept over reloads, upgrades and dead workers.

Every worker has a socket of its own for each bind (``SO_REUSEPORT``: the kernel shares the connections out), and here
each of them stays open, so that a worker that dies leaves its queue behind for the next one. A unix socket cannot be
shared out so: all workers accept from the same.

A socket belongs to its address. A listener that gets another name, another backlog or another cluster keeps it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

from proxy.core.address import Endpoint
from proxy.core.snapshot import DIRECT, Admin, Bind, Listener, Mode, Snapshot
from proxy.net import accept, sockopt
from proxy.net.accept import CannotListen
from proxy.service.upgrade import Heirloom
from proxy.telemetry.events import Events

Sockets: TypeAlias = Mapping[str, Sequence[socket.socket]]
"""By listener, one for each of its binds, in their order."""

ADMIN = "(admin)"  # what no listener is called
_SYSCTL = "/proc/sys/net/ipv4/tcp_fastopen"
_SERVER_BIT = 2
_SYN_DATA_ON = "sysctl -w net.ipv4.tcp_fastopen=3, in this network namespace; see `tfo-proxy doctor`"


def admin_listener(admin: Admin) -> Listener:
    """The admin as a listener like others: its sockets are opened, kept and handed down with theirs."""
    return Listener(ADMIN, admin.binds, Mode.FORWARD, DIRECT, fast_open=False, backlog=128)


class _Seat(NamedTuple):
    """What a socket belongs to: a bind, and where the kernel chooses the port the listener as well."""

    owner: str
    bind: Bind
    number: int  # among equal ones


@dataclass(slots=True)
class Prepared:
    """Sockets for another snapshot; nothing that is served has changed yet."""

    snapshot: Snapshot
    workers: int
    seats: dict[_Seat, list[socket.socket]] = field(default_factory=dict[_Seat, list[socket.socket]])
    fresh: list[socket.socket] = field(default_factory=list[socket.socket])
    tuned: list[_Seat] = field(
        default_factory=list[_Seat]
    )  # sockets kept that have their new options already


class Listeners:
    """All listening sockets. ``inherited`` were opened by another program, for listeners or under names of its own."""

    def __init__(self, inherited: Iterable[Heirloom] = ()) -> None:
        self.shares: list[Sockets] = []  # one for each worker
        self._seats: dict[_Seat, list[socket.socket]] = {}
        self._snapshot = Snapshot((), {})
        self._workers = 1
        self._inherited = list(inherited)
        self._lent = {one.sock for one in self._inherited if one.lent}
        for one in self._inherited:
            accept.remember_path(one.sock)

    def prepare(self, snapshot: Snapshot, workers: int = 1) -> Prepared:
        """Open what is missing, and give what stays its new options; raises `CannotListen`: nothing has changed."""
        prepared = Prepared(snapshot, workers)
        try:
            for seat, listener in _seats(snapshot):
                self._take(seat, listener, prepared)
        except CannotListen:
            self.abandon(prepared)
            raise
        return prepared

    def abandon(self, prepared: Prepared) -> None:
        """Undo `prepare`."""
        for sock in prepared.fresh:
            accept.close_listener(sock)
        listeners = dict(_seats(self._snapshot))
        for seat in prepared.tuned:
            for sock in self._seats.get(seat, ()):
                with suppress(OSError):
                    accept.tune(sock, listeners[seat], self._snapshot.tfo_keys)

    def adopt(self, prepared: Prepared) -> list[socket.socket]:
        """Make it so; the sockets that nobody wants any more, still open: what waits in their queues is accepted."""
        before = {sock for socks in self._seats.values() for sock in socks}
        after = {sock for socks in prepared.seats.values() for sock in socks}
        self._inherited = [one for one in self._inherited if one.sock not in after]
        self._seats, self._snapshot, self._workers = prepared.seats, prepared.snapshot, prepared.workers
        self.shares = [self._share(number) for number in range(prepared.workers)]
        for sock in before - after - self._lent:
            accept.unlink_path(sock)
        return list(before - after)

    def open(self, snapshot: Snapshot, workers: int = 1) -> None:
        """`prepare` and `adopt` at the start."""
        self.adopt(self.prepare(snapshot, workers))

    def unused(self) -> list[str]:
        """Close what was inherited and has no use; what it was called."""
        names = [one.name for one in self._inherited]
        for one in self._inherited:
            accept.close_listener(one.sock, unlink=False)
        self._inherited = []
        return names

    def part(self) -> None:
        """Take the paths of unix sockets away: nobody new shall come. The sockets themselves are still open."""
        shared = {sock for share in self.shares for sockets in share.values() for sock in sockets}
        for sock in shared - self._lent:
            accept.unlink_path(sock)

    def close(self, *, unlink: bool = True) -> None:
        """Stop listening everywhere. ``unlink``: and take the paths of unix sockets away; nobody goes on there."""
        for sock in self:
            accept.close_listener(sock, unlink=unlink and sock not in self._lent)
        self._seats, self.shares = {}, [{} for _ in self.shares]

    @property
    def admin(self) -> list[socket.socket]:
        """Where the admin listens."""
        return [
            sock
            for seat, listener in _seats(self._snapshot)
            if listener.name == ADMIN
            for sock in self._seats[seat]
        ]

    def __iter__(self) -> Iterator[socket.socket]:
        """Every socket once."""
        return iter([sock for socks in self._seats.values() for sock in socks])

    def heirlooms(self) -> list[Heirloom]:
        """All of them with the names of their listeners, for a successor."""
        return [
            Heirloom(listener.name, sock, sock in self._lent)
            for seat, listener in _seats(self._snapshot)
            for sock in self._seats[seat]
        ]

    def _take(self, seat: _Seat, listener: Listener, prepared: Prepared) -> None:
        workers = 1 if seat.bind.is_unix or listener.name == ADMIN else prepared.workers
        known = self._seats.get(seat) or self._matching(seat, listener)
        if known:
            prepared.tuned.append(seat)
        for sock in known:
            try:
                accept.tune(sock, listener, prepared.snapshot.tfo_keys)
            except OSError as error:
                raise CannotListen(listener.name, seat.bind, error) from error
        prepared.seats[seat] = taken = list(known)
        while len(taken) < workers:
            sock = self._listen(seat.bind, listener, prepared, taken)
            taken.append(sock)
            prepared.fresh.append(sock)

    def _listen(
        self, bind: Bind, listener: Listener, prepared: Prepared, beside: Sequence[socket.socket]
    ) -> socket.socket:
        keys = prepared.snapshot.tfo_keys
        try:
            return accept.listen(listener, bind, keys, beside=beside)
        except CannotListen as failure:
            # The one in the way may be ours and about to be closed, as when `*` becomes an address.
            ours = [sock for sock in self if sock.family != socket.AF_UNIX and _port(sock) == bind.port]
            if failure.errno != errno.EADDRINUSE or beside or bind.is_unix or not ours:
                raise
            return accept.listen(listener, bind, keys, beside=ours)

    def _matching(self, seat: _Seat, listener: Listener) -> list[socket.socket]:
        """Sockets that were inherited for this seat: by their address, or by name where any port will do."""
        bind = seat.bind
        return [
            sock
            for name, sock, lent in self._inherited
            if _is_at(sock, bind, lent=lent) and (bind.is_unix or bind.port or name == listener.name)
        ]

    def _share(self, worker: int) -> Sockets:
        share: dict[str, list[socket.socket]] = {listener.name: [] for listener in self._snapshot.listeners}
        for seat, listener in _seats(self._snapshot):
            if listener.name != ADMIN:
                sockets = self._seats[seat]
                share[listener.name].append(sockets[worker % len(sockets)])
        for seat, listener in _seats(
            self._snapshot
        ):  # a predecessor had more workers: nobody may wait there in vain
            if listener.name != ADMIN:
                share[listener.name] += self._seats[seat][self._workers :][worker :: self._workers]
        return share


def _seats(snapshot: Snapshot) -> Iterator[tuple[_Seat, Listener]]:
    admin = [] if snapshot.admin is None else [admin_listener(snapshot.admin)]
    for listener in (*snapshot.listeners, *admin):
        seen: dict[Bind, int] = {}
        for bind in listener.binds:
            number = seen[bind] = seen.get(bind, -1) + 1
            yield _Seat("" if bind.is_unix or bind.port else listener.name, bind, number), listener


def _is_at(sock: socket.socket, bind: Bind, *, lent: bool = False) -> bool:
    """Whether a socket is bound as ``bind`` says.

    Of one that a service manager lends (``lent``) it decides which families ``[::]`` and ``*`` are (BindIPv6Only= of
    systemd.socket(5)): another socket cannot be opened on that port anyway.
    """
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX or bind.is_unix:
        path = name.decode() if isinstance(name, bytes) else name
        return bool(sock.family == socket.AF_UNIX and path == bind.host.replace("@", "\0", 1))
    host, port = name[:2]
    if bind.port not in {0, port}:
        return False
    if bind.host == "*":
        return _is_dual(sock) or host == "0.0.0.0" or (lent and host == "::")
    if "%" in bind.host:
        try:
            wanted = sockopt.address_of(Endpoint(bind.host, port))
        except OSError:  # the interface is gone
            return False
        return bool((host, name[3]) == (wanted[0], wanted[-1]))
    return bool(host == bind.host and (lent or not _is_dual(sock)))


def _is_dual(sock: socket.socket) -> bool:
    """Whether it takes both families."""
    if sock.family != socket.AF_INET6 or sock.getsockname()[0] != "::":
        return False
    return not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def _port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def places(snapshot: Snapshot, sockets: Sockets) -> list[tuple[Listener, str, bool]]:
    """Where each listener really listens, and whether the kernel takes SYN data there."""
    return [
        (listener, _where(bind, sock), _takes_syn_data(listener, sock))
        for listener in snapshot.listeners
        for bind, sock in zip(listener.binds, sockets.get(listener.name, ()), strict=False)
    ]


def announce(snapshot: Snapshot, sockets: Sockets, events: Events, names: Iterable[str]) -> None:
    """Say where these listeners listen, where SYN data was wanted and will not be taken, and what mends that."""
    chosen = [listener for listener in snapshot.listeners if listener.name in set(names)]
    for listener, where, takes in places(replace(snapshot, listeners=tuple(chosen)), sockets):
        events.listening(listener.name, where, listener.cluster.name, fast_open=takes)
    queues = {
        listener.name: (listener, min(map(sockopt.fast_open_queue, tcp)))
        for listener in chosen
        if listener.fast_open
        and (tcp := [sock for sock in sockets[listener.name] if sock.family != socket.AF_UNIX])
    }
    switched_on = server_bit()
    deaf = [name for name, (_, queue) in queues.items() if not (switched_on and queue)]
    if deaf:
        events.warn("no_syn_data", listeners=deaf, do=_SYN_DATA_ON)
    for name, (listener, queue) in queues.items():
        if 0 < queue < listener.backlog:
            do = f"sysctl -w net.core.somaxconn={listener.backlog}, in this network namespace"
            events.warn("short_queue", listener=name, backlog=listener.backlog, allowed=queue, do=do)


def server_bit() -> bool:
    """Whether this network namespace lets servers take SYN data."""
    try:
        with open(_SYSCTL, encoding="ascii") as file:
            return bool(int(file.read()) & _SERVER_BIT)
    except (OSError, ValueError):
        return False


def _where(bind: Bind, sock: socket.socket) -> str:
    return str(bind) if bind.is_unix or bind.port else str(replace(bind, port=_port(sock)))


def _takes_syn_data(listener: Listener, sock: socket.socket) -> bool:
    """The option alone does nothing without the sysctl's bit."""
    if not listener.fast_open or sock.family == socket.AF_UNIX or not sockopt.fast_open_queue(sock):
        return False
    return server_bit()
