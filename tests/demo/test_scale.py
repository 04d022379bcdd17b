from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from proxy.demo.scale import GAP, TALL, Scale

MARKS = st.lists(st.tuples(st.floats(0, 5), st.integers(0, 3)), min_size=1, max_size=12)


@given(MARKS)
def test_time_only_runs_downwards_and_neighbours_keep_their_distance(marks: list[tuple[float, int]]) -> None:
    scale = Scale(marks)
    moments = sorted({moment for moment, _ in marks})
    places = [scale(moment) for moment in moments]
    assert places == sorted(places)
    assert scale.height >= max(places) - 1e-9
    for line in {line for _, line in marks}:
        own = [scale(moment) for moment in sorted({moment for moment, found in marks if found == line})]
        assert all(below - above >= GAP - 1e-6 for above, below in pairwise(own))


def test_what_lies_far_apart_is_to_scale() -> None:
    scale = Scale([(0.0, "a"), (0.05, "b"), (0.1, "a"), (0.2, "a")])
    assert scale(0.0) == 0
    assert abs(scale(0.1) - TALL / 2) < 1e-6
    assert abs(scale(0.2) - TALL) < 1e-6
    assert abs(scale(0.075) - TALL * 0.375) < 1e-6
    assert scale(0.3) > scale(0.2)


def test_nothing_to_draw_is_no_trouble() -> None:
    assert Scale([(1e-308, "a")]).height < 1
    assert Scale([]).height == 0
    assert Scale([(0.0, "a")])(0.0) == 0
