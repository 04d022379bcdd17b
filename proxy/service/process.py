"""What every process of ours is like, whoever started it."""

from __future__ import annotations

import gc
import os
import resource
from contextlib import suppress

_GC_THRESHOLD = 50_000  # a session makes some hundred container objects, and almost none in cycles


def prepare() -> None:
    """As many descriptors as we may have, files for ourselves, a garbage collector that leaves a busy relay alone."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.umask(0o077)
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 50)
