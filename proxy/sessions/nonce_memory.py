"""Where the nonces of tunnels are kept: a file beside the state file, or memory that ends with the program.

Both are mapped, so that all workers see the same table and a restart finds it again; a lock is held for the few
microseconds of a claim. The locks are those of fcntl(2), which belong to a process: workers may share one descriptor.

A file that was put back from a copy does not know the openings that came after the copy was made. Whether it is one
shows by its inode, and by the time of its last change, which is set by the kernel alone: it must be that at which the
last user closed the file. Else what was sealed before now is refused, as with a new file. So it is after a crash.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
from contextlib import suppress
from time import time as wall_clock  # noqa: TID251  # compared with the file system's

from proxy.core.nonces import SLOTS, Claim, Nonces

SUFFIX = ".nonces"
_CLOSE = 2.0  # seconds between the time of closing and that of the file's last change


class NoMemory(Exception):
    """The file cannot be used; the message says why."""


def open_memory(state: str | None, now: float, slots: int = SLOTS) -> int:
    """A descriptor for `NonceMemory`, here and in other processes. ``state``: the state file; ``now``: since 1970.

    What an earlier process has left in the file beside ``state`` is kept. Raises `NoMemory`.
    """
    try:
        if state is None:
            fd = os.memfd_create("nonces", os.MFD_CLOEXEC)
        else:
            fd = os.open(state + SUFFIX, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise NoMemory(f"{state}{SUFFIX}: {os.strerror(error.errno or 0)}") from None
    try:
        _prepare(fd, now, slots)
    except OSError as error:
        os.close(fd)
        raise NoMemory(f"{state}{SUFFIX}: {os.strerror(error.errno or 0)}") from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def _prepare(fd: int, now: float, slots: int) -> None:
    found = os.fstat(fd)
    if (
        not stat.S_ISREG(found.st_mode)
        or found.st_uid not in {0, os.geteuid()}
        or (found.st_nlink and found.st_mode & 0o022)
    ):
        raise NoMemory("the file of nonces is not ours alone to write")
    if found.st_nlink > 1:
        raise NoMemory("the file of nonces has another name too (a hard link), by which it could be changed")
    size = Nonces.size(slots)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    try:
        if found.st_size == size:
            with mmap.mmap(fd, size) as memory, memoryview(memory) as view:
                if Nonces.fits(view, slots):
                    if not _is_what_was_left(fd, found, view):
                        Nonces.renew(view, now)
                    _use(fd, found, view)
                    return
        os.ftruncate(fd, 0)
        os.ftruncate(fd, size)
        with mmap.mmap(fd, size) as memory, memoryview(memory) as view:
            Nonces.prepare(view, now, slots)
            _use(fd, found, view)
    finally:
        fcntl.lockf(fd, fcntl.LOCK_UN)


def _is_what_was_left(fd: int, found: os.stat_result, view: memoryview) -> bool:
    """Whether nobody has changed the file since its last user closed it, or another one has it open now."""
    file, closed = Nonces.stamp(view)
    if file != found.st_ino:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True  # in use: it cannot have been put back without that one's knowing
    return abs(found.st_ctime - closed) <= _CLOSE


def _use(fd: int, found: os.stat_result, view: memoryview) -> None:
    Nonces.set_stamp(view, found.st_ino, 0.0)
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for as long as the descriptor is open somewhere


class NonceMemory:
    """The table, as one process sees it. Owns ``fd``."""

    __slots__ = ("_fd", "_memory", "_nonces", "_view")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self._view = memoryview(self._memory)
        self._nonces = Nonces(self._view)

    def claim(self, nonce: bytes, sealed: float, attempt: int, owner: bytes) -> Claim:
        """As `Nonces.claim`, alone among all processes."""
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            return self._nonces.claim(nonce, sealed, attempt, owner)
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Forget nothing, but look no more."""
        with suppress(OSError):
            Nonces.set_stamp(self._view, os.fstat(self._fd).st_ino, wall_clock())
            self._memory.flush()
            os.utime(self._fd)
        self._view.release()
        self._memory.close()
        os.close(self._fd)
