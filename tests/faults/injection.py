"""System calls of the proxy that fail on purpose: the n-th one, with an errno of the test's choice.

Only calls made by modules of the proxy count, and of those only what a session, an accept loop or a spare makes on a
socket: the test's own clients and servers speak to the real kernel.
"""

from __future__ import annotations

import errno as e
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import fcntl, ioctl
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.net import flow, relay, sockopt, watch
from proxy.net.connection import Connection

PLAUSIBLE: dict[str, tuple[int, ...]] = {
    "socket": (e.EMFILE, e.ENFILE, e.ENOBUFS, e.ENOMEM, e.EAFNOSUPPORT, e.EACCES),
    "accept": (e.ECONNABORTED, e.EMFILE, e.ENFILE, e.ENOBUFS, e.ENOMEM, e.EPERM, e.EPROTO, e.EHOSTUNREACH),
    "bind": (e.EADDRNOTAVAIL, e.EADDRINUSE, e.EACCES),
    "connect": (
        e.ECONNREFUSED, e.ENETUNREACH, e.EHOSTUNREACH, e.EADDRNOTAVAIL, e.ETIMEDOUT, e.EACCES, e.EPERM,
        e.ECONNRESET, e.EAGAIN, e.ENOBUFS, e.EINVAL,
    ),
    "sendto": (
        e.EOPNOTSUPP, e.EINPROGRESS, e.EPIPE, e.ECONNREFUSED, e.ECONNRESET, e.EADDRNOTAVAIL, e.ENOBUFS,
        e.ENOMEM, e.ENETUNREACH, e.EPERM, e.EINVAL,
    ),
    "send": (e.EPIPE, e.ECONNRESET, e.ETIMEDOUT, e.EHOSTUNREACH, e.ENOBUFS, e.ENOMEM, e.ENOTCONN),
    "recv": (e.ECONNRESET, e.ETIMEDOUT, e.EHOSTUNREACH, e.ENETDOWN, e.ENOMEM, e.ENOTCONN),
    "getsockopt": (e.ENOPROTOOPT, e.EINVAL, e.ENOBUFS, e.ENOMEM, e.EPERM),
    "setsockopt": (e.ENOPROTOOPT, e.EINVAL, e.ENOBUFS, e.ENOMEM, e.EPERM),
    "getsockname": (e.ENOBUFS, e.EINVAL),
    "getpeername": (e.ENOTCONN, e.ENOBUFS),
    "shutdown": (e.ENOTCONN, e.EPIPE, e.ENOBUFS),
    "dup": (e.EMFILE, e.ENFILE),
    "ioctl": (e.EINVAL, e.ENOTTY),
    "pipe2": (e.EMFILE, e.ENFILE),
    "fcntl": (e.EPERM, e.EBUSY, e.ENOMEM),
    "splice in": (e.ECONNRESET, e.EINVAL, e.ENOMEM, e.ETIMEDOUT),
    "splice out": (e.EPIPE, e.ECONNRESET, e.EINVAL, e.ENOMEM),
    "epoll add": (e.ENOMEM, e.ENOSPC),
    "epoll change": (e.ENOMEM,),
}  # fmt: skip


class Calls:
    """Every call in its order, and the one that shall fail."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.fail_at: int | None = None
        self.planned = ""  # which call that should be
        self.errno = 0
        self.counting = False

    def came(self, name: str) -> None:
        """Called by each on its way; raises OSError when it is its turn."""
        if not self.counting or not _is_the_proxy(sys._getframe(2)):
            return
        number = len(self.made)
        self.made.append(name)
        if number == self.fail_at:
            # Sessions do not always go the same way: what comes instead fails with what is plausible for it.
            code = self.errno if name == self.planned else PLAUSIBLE[name][0]
            raise OSError(code, os.strerror(code))


def _is_the_proxy(frame: Any) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name.startswith("proxy.") and not name.startswith("proxy.lab")


CALLS = Calls()


class _Epoll:
    """A real epoll, whose calls may be told to fail."""

    def __init__(self) -> None:
        self._real = select.epoll()
        self.fileno, self.poll, self.close = self._real.fileno, self._real.poll, self._real.close
        self.unregister = self._real.unregister

    def register(self, fd: int, events: int) -> None:
        CALLS.came("epoll add")
        self._real.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        CALLS.came("epoll change")
        self._real.modify(fd, events)


def _named(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        CALLS.came(name)
        return real(*args, **kwargs)

    return call


def _coded(name: str, real: Callable[..., int]) -> Callable[..., int]:
    """The same for a call that returns its errno."""

    def call(*args: Any) -> int:
        try:
            CALLS.came(name)
        except OSError as error:
            return error.errno or 0
        return real(*args)

    return call


def _splice(real: Callable[..., int]) -> Callable[..., int]:
    def call(source: int, sink: int, count: int, *, flags: int) -> int:
        CALLS.came("splice out" if count < flow._PIPE else "splice in")
        return real(source, sink, count, flags=flags)

    return call


_METHODS = {
    "bind": "bind", "sendto": "sendto", "send": "send", "recv": "recv", "recv_into": "recv",
    "getsockopt": "getsockopt", "setsockopt": "setsockopt", "getsockname": "getsockname",
    "getpeername": "getpeername", "shutdown": "shutdown", "dup": "dup",
}  # fmt: skip


def _made(*args: Any) -> Connection:
    CALLS.came("socket")
    return Connection(*args)


@contextmanager
def injected() -> Iterator[Calls]:
    """The calls of all connections are counted from now on, and may be told to fail."""
    CALLS.__init__()  # type: ignore[misc]  # as new
    with pytest.MonkeyPatch.context() as patch:
        for method, name in _METHODS.items():
            patch.setattr(Connection, method, _named(name, getattr(Connection, method)), raising=False)
        patch.setattr(Connection, "connect_ex", _coded("connect", Connection.connect_ex), raising=False)
        patch.setattr(socket.socket, "_accept", _named("accept", socket.socket._accept), raising=False)  # type: ignore[attr-defined]
        patch.setattr(sockopt, "Connection", _made)
        numbers = {name: value for name, value in vars(select).items() if name.startswith("EPOLL")}
        patch.setattr(watch, "select", SimpleNamespace(epoll=_Epoll, **numbers))
        patch.setattr(os, "splice", _splice(os.splice))
        patch.setattr(os, "pipe2", _named("pipe2", os.pipe2))
        patch.setattr(flow, "fcntl", _named("fcntl", fcntl))
        patch.setattr(relay, "ioctl", _named("ioctl", ioctl))
        yield CALLS
    CALLS.counting = False
