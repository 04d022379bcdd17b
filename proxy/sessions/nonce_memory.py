"""Where the nonces of tunnels are kept: a file beside the state file, or memory that ends with the program.

Both are mapped, so that all workers see the same table and a restart finds it again; a lock is held for the few
microseconds of a claim. The locks are those of fcntl(2), which belong to a process: workers may share one descriptor.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat

from proxy.core.nonces import SLOTS, Claim, Nonces

SUFFIX = ".nonces"


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
    size = Nonces.size(slots)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    try:
        if found.st_size == size:
            with mmap.mmap(fd, size) as memory, memoryview(memory) as view:
                if Nonces.fits(view, slots):
                    return
        os.ftruncate(fd, 0)
        os.ftruncate(fd, size)
        with mmap.mmap(fd, size) as memory, memoryview(memory) as view:
            Nonces.prepare(view, now, slots)
    finally:
        fcntl.lockf(fd, fcntl.LOCK_UN)


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
        self._view.release()
        self._memory.close()
        os.close(self._fd)
