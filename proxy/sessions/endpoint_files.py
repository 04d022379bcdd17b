"""Files that name a cluster's endpoints, read again when they have changed."""

from __future__ import annotations

import os
from collections.abc import Sequence

from proxy.config.endpoints import read_endpoints
from proxy.config.mistakes import ConfigError
from proxy.core.address import Target
from proxy.net.resolve import NoSuchHost


class EndpointsFile:
    """One of them; one that is broken leaves what it said before."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._targets: tuple[tuple[Target, int], ...] = ()
        self._problem = ""

    def read(self) -> Sequence[tuple[Target, int]]:
        """What it says; raises `NoSuchHost` where it never could be read."""
        try:
            status = os.stat(self._path)
            seen = status.st_mtime_ns, status.st_size, status.st_ino
            if seen != self._seen:
                self._seen = seen
                self._targets, self._problem = read_endpoints(self._path), ""
        except (OSError, ConfigError) as error:
            self._problem = str(error)
        if not self._targets:
            raise NoSuchHost(self._problem or f"{self._path} names no endpoints")
        return self._targets
