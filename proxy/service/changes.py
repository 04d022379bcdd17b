"""Notice that files have changed: the configuration, and the secrets that it names.

Once a second each file is asked for its identity: device, inode, times and size of what its path leads to. That is a
few microseconds, and true for every way in which a file can change: written in place, replaced by a rename, or behind
a symbolic link that is (Kubernetes swaps ``..data``, and no event of inotify(7) says so for the file itself).

A file in the middle of being written is waited for: what is told has stayed the same for two looks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import trio

LOOK = 1.0  # seconds between two looks
_GONE = 5  # looks for which a file must be missing before that counts as a change

_Identity = tuple[int, int, int, int, int] | None


class Changes:
    """Changes of some files since this was made, as an asynchronous iterator; make it before they are read."""

    def __init__(self, files: Callable[[], Iterable[str]], look: float = LOOK) -> None:
        """``files`` are the paths to look at, asked anew after every change: a new file may name others."""
        self._files = files
        self._look = look
        self._known = self._identities()

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> tuple[str, ...]:
        """Wait for a change that has come to rest; the paths that are different now, or gone."""
        last, still = self._known, 0
        while True:
            await trio.sleep(self._look)
            now = {path: identity(path) for path in self._known}
            still = still + 1 if now == last else 0
            last = now
            changed = tuple(path for path, was in self._known.items() if now[path] != was)
            if not changed or still < (_GONE if any(now[path] is None for path in changed) else 1):
                continue
            # What was found is what is known, and not what would be found now: the next look tells the difference.
            self._known = {path: now.get(path, found) for path, found in self._identities().items()}
            return changed

    def seen(self) -> None:
        """Everything is about to be read for another reason: what is there now is no news."""
        self._known = self._identities()

    def _identities(self) -> dict[str, _Identity]:
        return {path: identity(path) for path in self._files()}


def identity(path: str) -> _Identity:
    """What a file is replaced or written by cannot keep; None where there is no file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
