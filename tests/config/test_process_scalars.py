from __future__ import annotations

import os

import pytest

from proxy.config.process_scalars import MOST, Workers
from proxy.config.scalars import BadScalar


def test_a_number_or_the_cores_we_may_use() -> None:
    assert Workers.read("3").value == 3
    assert Workers.read("cores").value == len(os.sched_getaffinity(0))
    assert Workers.read(str(MOST)).plain() == MOST


@pytest.mark.parametrize("text", ["0", "-1", "257", "1.5", "core", "", "٣", "0x2", "1000"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadScalar, match="cores, or a number from 1 to 256"):
        Workers.read(text)
