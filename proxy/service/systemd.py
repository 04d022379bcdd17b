"""The service manager's side of a service: sockets it has opened for us, and what it is told of us.

sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3), which are a few variables and one datagram each. Without
systemd none of it does anything.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import NamedTuple

_FIRST = 3  # SD_LISTEN_FDS_START
_MOST = 4096
_LISTEN = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_UNNAMED = "unknown"  # as sd_listen_fds_with_names(3) says
_PATIENCE = 0.1  # seconds that a manager who does not listen may hold us up

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


class Activated(NamedTuple):
    """Listening sockets by the name the manager gave them (``FileDescriptorName=``), in its order."""

    sockets: dict[str, list[socket.socket]]
    useless: list[str]  # names of what was passed and is no listening stream socket; they have been closed

    def close(self) -> None:
        """Listen on none of them."""
        for sockets in self.sockets.values():
            for sock in sockets:
                sock.close()


def activated(environ: MutableMapping[str, str] = os.environ, first: int = _FIRST) -> Activated:
    """The sockets that were passed to this process. To be asked once: the variables are taken away.

    They do not survive an exec(3), nor are they passed to children by mistake. ``first`` is the first descriptor.
    """
    said = {name: environ.pop(name, "") for name in _LISTEN}
    passed = Activated({}, [])
    count = _number(said["LISTEN_FDS"])
    if _number(said["LISTEN_PID"]) != os.getpid() or not 0 < count <= _MOST:
        return passed
    names = said["LISTEN_FDNAMES"].split(":") if said["LISTEN_FDNAMES"] else []
    for number in range(count):
        name = names[number] if number < len(names) and names[number] else _UNNAMED
        sock = _listening(first + number)
        if sock is None:
            passed.useless.append(name)
        else:
            passed.sockets.setdefault(name, []).append(sock)
    return passed


def _listening(fd: int) -> socket.socket | None:
    """The listening stream socket behind ``fd``, not inherited by programs; anything else is closed."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        with suppress(OSError):
            os.close(fd)
        return None
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        return None
    os.set_inheritable(fd, False)
    sock.setblocking(False)
    return sock


def notify(*states: str, environ: MutableMapping[str, str] = os.environ) -> bool:
    """Send assignments like `READY` to the manager in one datagram; whether it was there to take them.

    Never raises, and waits at most a tenth of a second.
    """
    where = environ.get("NOTIFY_SOCKET", "")
    if where[:1] not in {"/", "@"}:
        return False
    address = "\0" + where[1:] if where.startswith("@") else where
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_PATIENCE)
            sock.connect(address)
            sock.send("\n".join(states).encode(errors="replace"))
    except (OSError, ValueError):
        return False
    return True


def reloading() -> str:
    """To be said before a reload; `READY` ends it. Type=notify-reload wants the time, systemd(1)'s clock."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def status(text: str) -> str:
    """One line for people, shown by ``systemctl status``."""
    return "STATUS=" + " ".join(text.split())


def extend_timeout(seconds: float) -> str:
    """Starting or stopping goes on: wait for so long from now before it counts as failed."""
    return f"EXTEND_TIMEOUT_USEC={max(1, round(seconds * 1e6))}"


def main_pid(pid: int) -> str:
    """From now on process ``pid`` is the service (an upgrade)."""
    return f"MAINPID={pid}"


def watchdog_interval(environ: MutableMapping[str, str] = os.environ) -> float | None:
    """Seconds within which each `WATCHDOG` must follow the last; send it twice as often. None: nobody waits for it."""
    interval = _number(environ.get("WATCHDOG_USEC", ""))
    of = environ.get("WATCHDOG_PID")
    if interval <= 0 or (of and _number(of) != os.getpid()):
        return None
    return interval / 1e6


def _number(text: str) -> int:
    """A decimal number; -1 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1
