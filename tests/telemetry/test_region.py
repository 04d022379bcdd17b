from __future__ import annotations

import os
import subprocess
import sys

import pytest

from proxy.core.account import FIRST_BYTE_BOUNDS
from proxy.core.evidence import Evidence
from proxy.telemetry.region import DOUBLES, DURATION_BOUNDS, LAYOUT, SLOTS, Block, OfWay, Region


def test_a_region_describes_itself() -> None:
    region = Region()
    assert list(region.blocks()) == []
    first = region.add(Block.WAY, ("web", "api"))
    second = region.add(Block.ENDING, ("web", "api", "proxy", "dial", "refused"))
    assert first is not None
    assert second == first + SLOTS[Block.WAY]
    assert list(region.blocks()) == [
        (Block.WAY, ("web", "api"), first),
        (Block.ENDING, ("web", "api", "proxy", "dial", "refused"), second),
    ]


@pytest.mark.parametrize("text", ["", "ü", "a" * 1000, 'x"\\\n', "\udcff"])
def test_any_label_comes_back(text: str) -> None:
    region = Region()
    region.add(Block.REFUSED, (text, "x"))
    (block,) = region.blocks()
    assert block[1] == (text.encode(errors="replace").decode(), "x")


def test_a_full_region_refuses() -> None:
    region = Region()
    added = 0
    while region.add(Block.WAY, (f"listener-{added}", "cluster")) is not None:
        added += 1
    assert added > 500
    assert len(list(region.blocks())) == added
    assert region.add(Block.ENDING, ("x" * 70000,)) is None


def test_slots_of_a_way_do_not_overlap() -> None:
    buckets = {
        OfWay.DURATION: len(DURATION_BOUNDS) + 2,
        OfWay.FIRST_BYTE_FAST: len(FIRST_BYTE_BOUNDS) + 2,
        OfWay.FIRST_BYTE_PLAIN: len(FIRST_BYTE_BOUNDS) + 2,
        OfWay.FIRST_BYTE_SPARE: len(FIRST_BYTE_BOUNDS) + 2,
        OfWay.EVIDENCE: len(Evidence),
    }
    taken = [slot for first in OfWay for slot in range(first, first + buckets.get(first, 1))]
    assert sorted(taken) == list(range(SLOTS[Block.WAY]))
    assert set(OfWay) >= DOUBLES


def test_another_process_counts_in_the_same_memory() -> None:
    region = Region.create()
    start = region.add(Block.LISTENER, ("web",))
    assert start is not None
    program = (
        "import sys; from proxy.telemetry.region import Region\n"
        "region = Region(int(sys.argv[1])); ((_, labels, start),) = region.blocks()\n"
        "for _ in range(1000): region.integers[start] += 1\n"
        "region.doubles[start + 1] = 2.5\n"
    )
    child = [sys.executable, "-c", program, str(region.fd)]
    subprocess.run(child, pass_fds=[region.fd], check=True)
    assert (region.integers[start], region.doubles[start + 1]) == (1000, 2.5)
    region.close()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(region.fd)


def test_the_layout_is_told_by_a_number() -> None:
    """Whoever changes what stands in a slot changes it; other Pythons find the same."""
    again = "from proxy.telemetry.region import LAYOUT; print(LAYOUT)"
    found = subprocess.run(
        [sys.executable, "-c", again], capture_output=True, text=True, check=True, timeout=30
    )
    assert int(found.stdout) == LAYOUT
