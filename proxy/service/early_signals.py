"""Signals that come before the program is ready: they are kept, and obeyed as soon as it can.

Until a handler is installed, SIGHUP, SIGUSR1 and SIGUSR2 would end the program, and the kernel throws away what is sent
to process 1 of a container (pid_namespaces(7)). Signal masks and ignored signals are inherited (signal(7)), so a parent
may have blocked SIGTERM or ignored SIGCHLD, without which the end of a worker cannot be asked for.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

OBEYED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
_STOPS = (signal.SIGTERM, signal.SIGINT)
_kept: list[int] = []


def catch() -> None:
    """Keep the signals of `OBEYED` from now on; a second one that asks to stop ends the process with status 1."""
    for number in OBEYED:
        signal.signal(number, _keep)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def ignore() -> None:
    """Ignore the signals of `OBEYED`: the program ends already, and one more would change its exit status."""
    for number in OBEYED:
        signal.signal(number, signal.SIG_IGN)


def take() -> list[int]:
    """The signals that were kept, in their order; to be called when others than this module receive them."""
    taken = list(_kept)
    _kept.clear()
    return taken


def _keep(number: int, _frame: FrameType | None) -> None:
    if number in _STOPS and any(kept in _STOPS for kept in _kept):
        os._exit(1)
    _kept.append(number)
