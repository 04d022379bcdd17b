"""Orders by signals: ``--pid``, and where an admin on this machine takes none because it has no token.

The kernel checks who may send a signal: root, and the user that the process runs as (kill(2)).
"""

from __future__ import annotations

import os
import select
import signal
from typing import Self

import click

from proxy.admin import views
from proxy.commands.group import FAILED
from proxy.commands.healthcheck import PROC, listening_sockets, proxies
from proxy.commands.remote import Remote

option = click.option(
    "--pid",
    type=click.IntRange(min=1),
    metavar="PID",
    help="Send a signal to this process instead; for a proxy without an admin.",
)


class NoProcess(click.ClickException):
    """There is none, or it is somebody else's."""

    exit_code = FAILED


class Process:
    """A running process, which is known for itself: another one that gets its number later is not meant."""

    def __init__(self, pid: int) -> None:
        """Raises `NoProcess`."""
        self.pid = pid
        try:
            self._fd = os.pidfd_open(pid)
        except OSError as error:
            raise NoProcess(f"process {pid}: {error.strerror}") from None
        if all(process.name != str(pid) for process in proxies()):
            os.close(self._fd)
            raise NoProcess(f"process {pid} is no `tfo-proxy run` that may be seen from here")

    @classmethod
    def behind(cls, there: Remote) -> Self | None:
        """The process on this machine whose admin ``there`` is; None where that cannot be seen from here."""
        port = there.local_port
        if port is None:
            return None
        try:
            pid = there.view("/api/v1/status", views.Status).pid
            held = {one.name for one in listening_sockets(PROC / str(pid))}
            return cls(pid) if f"port {port}" in held else None
        except click.ClickException:
            return None

    def send(self, number: signal.Signals) -> None:
        """A signal. Raises `NoProcess`."""
        try:
            signal.pidfd_send_signal(self._fd, number)
        except OSError as error:
            raise NoProcess(f"process {self.pid}: {error.strerror}") from None

    def ended(self, within: float) -> bool:
        """Whether it has, after at most so many seconds."""
        return bool(select.select([self._fd], [], [], within)[0])
