from __future__ import annotations

import os
import resource
import time

import pytest

from proxy.telemetry import processes


def test_of_ourselves() -> None:
    usage = processes.usage(os.getpid())
    assert usage is not None
    own = resource.getrusage(resource.RUSAGE_SELF)
    assert usage.cpu == pytest.approx(own.ru_utime + own.ru_stime, abs=0.2)
    assert usage.resident <= usage.virtual
    assert usage.resident < own.ru_maxrss * 1024 * 1.1
    assert usage.descriptors >= 3
    assert usage.started < time.time()
    assert processes.most_descriptors() >= usage.descriptors


def test_of_nobody() -> None:
    assert processes.usage(2**22 + 1) is None
