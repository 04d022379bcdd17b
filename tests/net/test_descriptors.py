from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.net.descriptors import budget


@contextmanager
def limited(soft: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("limit", [128, 256, 1024, 4096])
def test_two_for_each_session_and_some_for_the_rest(limit: int) -> None:
    used = len(os.listdir("/proc/self/fd"))
    with limited(limit):
        sessions, ceiling = budget()
    if used < limit // 2:
        assert 2 * sessions + used <= limit
        assert 2 * sessions + used >= limit * 3 // 4
        assert 2 * sessions + used <= ceiling < limit


def test_there_is_always_room_for_one() -> None:
    with limited(len(os.listdir("/proc/self/fd")) + 1):
        assert budget().sessions == 1


def test_none_left_to_look_with() -> None:
    taken = []
    with limited(max(map(int, os.listdir("/proc/self/fd"))) + 40):
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            assert budget().sessions == 1
        finally:
            for each in taken:
                os.close(each)


def test_a_huge_limit_is_not_taken_at_its_word() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with limited(hard):
        assert budget().sessions <= 1 << 19
