"""Listening sockets, and the loop that takes connections from them and survives whatever accept(2) says."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable, Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

import trio

from proxy.core.address import Endpoint
from proxy.core.errnos import ABOUT_ONE_CONNECTION, SHORTAGES
from proxy.core.record import Peer
from proxy.core.snapshot import Bind, Listener, Mode
from proxy.net import sockopt
from proxy.net.connection import taker

# The listener itself is gone. After a shortage, or a policy's no (EPERM), the same accept would fail again at once, so
# the loop waits; other errors belong to the connection that was being accepted (accept(2), "Linux accept() passes
# already-pending network errors"), and there is a next one.
_LISTENER_GONE = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP, errno.EFAULT})
_SHORTAGE_PAUSE = 0.1
_QUEUE_MOST = 65536  # longer than any queue: somebody who connects all the time must not keep us here
_BATCH = 32  # accepted in a row before those accepted get a turn
_files: WeakKeyDictionary[socket.socket, tuple[int, int]] = WeakKeyDictionary()  # device and inode


class CannotListen(Exception):
    """A bind that failed: whose, which, and the errno in words."""

    def __init__(self, listener: str, bind: Bind, error: OSError) -> None:
        code = error.errno or 0
        why = f"{os.strerror(code)} ({sockopt.errno_name(code)})"
        remedy = _remedy(bind, code)
        super().__init__(f"listener {listener} cannot listen on {bind}: {why}{remedy and '; '}{remedy}")
        self.listener = listener
        self.bind = bind
        self.errno = error.errno


def _remedy(bind: Bind, code: int) -> str:
    """What mends it that a bind fails with this errno; empty where that is not known."""
    if bind.is_unix:
        folder = os.path.dirname(bind.host) or "."
        return {
            errno.ENOENT: f"create the folder {folder}",
            errno.EACCES: f"let this process's user write to the folder {folder}, and enter those above it",
            errno.EROFS: "choose a folder that can be written to",
            errno.EADDRINUSE: "end the program that listens there; if there is none, remove the file",
            errno.ENOTDIR: f"{folder} is not a folder",
        }.get(code, "")
    return {
        errno.EACCES: "a port below net.ipv4.ip_unprivileged_port_start (1024) needs root or CAP_NET_BIND_SERVICE:"
        " choose a higher one, start it as root with `user`, or have systemd open it",
        errno.EADDRINUSE: "another program listens there (`ss -ltnp` shows which): end it, or choose another port",
        errno.EADDRNOTAVAIL: "this machine does not have that address: `ip address` lists those it has",
        errno.EAFNOSUPPORT: "this kernel has no IPv6: write an IPv4 address",
    }.get(code, "")


class Gate(Protocol):
    """Whether the next connection may be accepted now."""

    def room(self) -> int:
        """How many may be accepted at once; 0: none, and `pause` tells for how long."""
        ...

    def pause(self) -> float:
        """Seconds until it is worth asking again; 0: it may."""
        ...

    def held(self) -> None:
        """Told whenever a connection has to wait for that."""
        ...


def listen(
    listener: Listener,
    bind: Bind,
    keys: tuple[bytes, ...] = (),
    *,
    beside: Sequence[socket.socket] = (),
) -> socket.socket:
    """A listening, non-blocking socket, with Fast Open where the listener wants it; raises `CannotListen`.

    ``beside`` are open sockets of ours with which it shares its port; a port of 0 becomes theirs. Without any, the
    port must be free: a second instance of this program is refused, and not given half of the connections.
    """
    try:
        sock = _unix_socket(bind) if bind.is_unix else _tcp_socket(bind, beside)
    except OSError as error:
        raise CannotListen(listener.name, bind, error) from error
    try:
        tune(sock, listener, keys)
        sock.setblocking(False)
    except OSError as error:
        close_listener(sock)
        raise CannotListen(listener.name, bind, error) from error
    return sock


def tune(sock: socket.socket, listener: Listener, keys: tuple[bytes, ...] = ()) -> None:
    """Give a bound socket the options of ``listener``; one that listens already goes on, and loses no connection.

    Keys that it has and ``keys`` does not name stay: the kernel has no way to take them away. Raises OSError.
    """
    if sock.family != socket.AF_UNIX:
        sockopt.send_at_once(sock)
        sockopt.keep_alive(sock, listener.cluster.keepalive)
        sockopt.transparent(sock, listener.mode is Mode.TPROXY)
        with contextlib.suppress(OSError):  # the start-up check says what is missing
            if listener.fast_open:
                sockopt.accept_syn_data(sock, listener.backlog, keys)
            elif sockopt.fast_open_queue(sock):
                sockopt.accept_syn_data(sock, 0)
    sock.listen(listener.backlog)


async def accept_forever(
    sock: socket.socket,
    serve: Callable[[socket.socket, Peer], None],
    trouble: Callable[[OSError], None],
    gate: Gate | None = None,
) -> None:
    """Hand every connection and its peer's address to ``serve``; returns when the listening socket is closed.

    ``trouble`` is told of each shortage, and of errors that no caller can do anything about. While ``gate`` is shut
    connections stay in the kernel's queue.
    """
    take, batch, room = taker(sock), 0, 0
    while True:
        if room <= 0:
            room = _BATCH if gate is None else gate.room()
            if room <= 0 and gate is not None and not await _opened(sock, gate):
                return
        try:
            connection, peer = take()
        except BlockingIOError:
            batch = room = 0
            try:
                await trio.lowlevel.wait_readable(sock)
            except trio.ClosedResourceError:
                return
            continue
        except OSError as error:
            if error.errno in _LISTENER_GONE:
                return
            trouble(error)
            room = 0
            if error.errno not in ABOUT_ONE_CONNECTION:
                await trio.sleep(_SHORTAGE_PAUSE)
            else:
                await trio.lowlevel.checkpoint()
            continue
        serve(connection, peer)
        room -= 1
        batch += 1
        if batch >= _BATCH:
            batch = room = 0
            await trio.lowlevel.checkpoint()


async def _opened(sock: socket.socket, gate: Gate) -> bool:
    """Wait until ``gate`` is open; False: the listening socket has been closed meanwhile."""
    while pause := gate.pause():
        if sock.fileno() < 0:
            return False
        try:
            await trio.lowlevel.wait_readable(sock)  # nobody is held back where nobody comes
        except trio.ClosedResourceError:
            return False
        pause = gate.pause()
        if not pause:
            break
        gate.held()
        await trio.sleep(pause)
    return True


def take_all(
    sock: socket.socket, serve: Callable[[socket.socket, Peer], None], trouble: Callable[[OSError], None]
) -> None:
    """Hand over what waits in the queue of a socket that is about to be closed: its clients think it is accepted."""
    take = taker(sock)
    for _ in range(_QUEUE_MOST):
        try:
            connection, peer = take()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in SHORTAGES:
                trouble(error)
            if error.errno in _LISTENER_GONE | SHORTAGES:
                return
            continue
        serve(connection, peer)


def close_listener(sock: socket.socket, *, unlink: bool = True) -> None:
    """Stop listening. ``unlink``: a unix socket's path is taken away, as `unlink_path` does it."""
    if unlink:
        unlink_path(sock)
    if sock.fileno() >= 0:
        with contextlib.suppress(RuntimeError):  # no trio is running any more
            trio.lowlevel.notify_closing(sock)
    sock.close()


def remember_path(sock: socket.socket) -> None:
    """Take note of which file is the path of a unix socket: at the path there may be another one later."""
    path = _path(sock)
    if path:
        with contextlib.suppress(OSError):
            found = os.stat(path)
            _files[sock] = found.st_dev, found.st_ino


def unlink_path(sock: socket.socket) -> None:
    """Take away the path of a unix socket that is still open, if the file there is its own, and not a successor's."""
    path, own = _path(sock), _files.get(sock)
    if path and own is not None:
        with contextlib.suppress(OSError):
            found = os.stat(path)
            if (found.st_dev, found.st_ino) == own:
                os.unlink(path)


def _path(sock: socket.socket) -> str:
    """Where an open unix socket is bound; empty for others, and for abstract ones."""
    path = sock.getsockname() if sock.family == socket.AF_UNIX and sock.fileno() >= 0 else ""
    return path if isinstance(path, str) else ""


def _tcp_socket(bind: Bind, beside: Sequence[socket.socket]) -> socket.socket:
    for other in beside:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    port = bind.port or (beside[0].getsockname()[1] if beside else 0)
    host = "::" if bind.host == "*" else bind.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    share = bool(beside)
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        if bind.host != "*":
            raise
        return _bound(socket.socket(socket.AF_INET, socket.SOCK_STREAM), ("0.0.0.0", port), share)
    if family == socket.AF_INET6:
        dual = any(_is_dual(other) for other in beside) if beside else bind.host == "*"
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
    return _bound(sock, sockopt.address_of(Endpoint(host, port)), share)


def _is_dual(sock: socket.socket) -> bool:
    """Whether it takes IPv4 connections, too."""
    return sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def _bound(sock: socket.socket, address: object, share: bool) -> socket.socket:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)  # type: ignore[arg-type]  # typeshed knows address families one by one
    except OSError:
        sock.close()
        raise
    return sock


def _unix_socket(bind: Bind) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path = "\0" + bind.host[1:] if bind.host.startswith("@") else bind.host
    try:
        _clear_stale(path)
        sock.bind(path)
    except OSError:
        sock.close()
        raise
    remember_path(sock)
    return sock


def _clear_stale(path: str) -> None:
    """Take away a socket file that nobody listens on any more: its owner was killed."""
    if path.startswith("\0"):
        return
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.setblocking(False)
        try:
            knock.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            return
