"""How many sessions there are descriptors for."""

from __future__ import annotations

import errno
import os
import resource
from typing import NamedTuple

_UNLIMITED = 1 << 20
_LARGEST_RESERVE = 256  # for files, look-ups, second dials, and answers to those who are turned away
_USUAL = 16
_A_SESSION = 2  # its two sockets; pipes are a luxury that a relay can do without


class Budget(NamedTuple):
    """What this process may have open, as it was when it was counted."""

    sessions: int  # how many sessions there may be at a time
    ceiling: int  # an accepted socket whose number is this or more leaves too little for its upstream


def budget() -> Budget:
    """From ``RLIMIT_NOFILE`` and what is open already: sessions need two each, and some must be left over.

    The kernel gives the lowest free number to a new descriptor, so a high one tells that all below are taken.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit > _UNLIMITED:
        limit = _UNLIMITED
    reserve = min(_LARGEST_RESERVE, limit // 8)
    return Budget(max(1, (limit - reserve - _open_now(limit)) // _A_SESSION), max(1, limit - reserve // 2))


def _open_now(limit: int) -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError as error:
        return limit if error.errno == errno.EMFILE else _USUAL  # no /proc in this jail
