from __future__ import annotations

import pytest

from proxy.lab.rewrite import reset_to
from proxy.lab.rules import Direction, answer, connection
from tests.lab.segments import segment


def test_there_and_back() -> None:
    assert [str(way) for way in Direction] == ["C>S", "S>C"]
    assert all(way.back.back is way and way.back is not way for way in Direction)


@pytest.mark.parametrize(
    ("direction", "hop", "hops"),
    [
        (Direction.UP, 0.0, 0.0),
        (Direction.UP, 0.5, 1.0),
        (Direction.UP, 1.0, 2.0),
        (Direction.DOWN, 1.0, 0.0),
        (Direction.DOWN, 0.25, 1.5),
    ],
)
def test_an_answer_has_as_far_to_go_as_the_packet_had_come_and_back(
    direction: Direction, hop: float, hops: float
) -> None:
    reply = reset_to(segment())
    verdict = answer(direction, reply, hop)
    assert verdict.packet is None
    (injection,) = verdict.injected
    assert (injection.packet, injection.direction, injection.hops) == (reply, direction.back, hops)


@pytest.mark.parametrize("version", [4, 6])
def test_both_directions_are_one_connection(version: int) -> None:
    there = segment(version)
    back = reset_to(there)
    assert connection(there, Direction.UP) == connection(back, Direction.DOWN) == there.flow
