from __future__ import annotations

import pytest

from proxy.admin.minutes import KEPT, Mark, Minutes, mark
from proxy.telemetry.region import OfWay
from proxy.telemetry.sums import add_all


def test_what_each_minute_brought() -> None:
    minutes = Minutes(1000.0, Mark())
    for second in range(0, 181, 5):
        minutes.look(Mark(second, 2 * second, second / 10, second / 100, 3 * second), 1000.0 + second)
    views = minutes.views(5e9)
    assert [minute.began for minute in views] == [5e9, 5e9 + 60, 5e9 + 120, 5e9 + 180]
    assert [minute.sessions for minute in views] == [55, 60, 60, 5]
    assert sum(minute.sessions for minute in views) == 180
    assert sum(minute.seconds_saved for minute in views) == pytest.approx(18)
    assert views[1].round_trips_saved == 120
    assert views[1].bytes == 180


def test_an_hour_is_kept() -> None:
    minutes = Minutes(0.0, Mark())
    for minute in range(200):
        minutes.look(Mark(minute), 60.0 * minute)
    assert len(minutes.views(0.0)) == KEPT
    assert minutes.views(0.0)[-1].began == 199 * 60


def test_nobody_looked_for_a_while() -> None:
    minutes = Minutes(0.0, Mark())
    minutes.look(Mark(1), 1.0)
    minutes.look(Mark(5), 600.0)
    assert sum(minute.sessions for minute in minutes.views(0.0)) == 5
    assert len(minutes.views(0.0)) == 2


def test_of_late() -> None:
    minutes = Minutes(0.0, Mark())
    minutes.look(Mark(10, 10, 1.0), 10.0)
    assert minutes.per_minute(10.0) == (10, 1.0), "less than a minute counts as one"
    for second in range(15, 1200, 5):
        minutes.look(Mark(10, 10 + second, 1.0 + second / 10), float(second))
    trips, seconds = minutes.per_minute(1195.0)
    assert trips == pytest.approx(60, rel=0.05)
    assert seconds == pytest.approx(6, rel=0.05)


def test_a_mark_of_all_ways() -> None:
    numbers = add_all([])
    numbers[OfWay.UP_BYTES], numbers[OfWay.DOWN_BYTES], numbers[OfWay.SESSIONS] = 3, 4, 5
    assert mark(numbers) == Mark(5, 0, 0, 0, 7)


def test_what_was_counted_before_is_nobodys_minute() -> None:
    before = Mark(1000, 900, 50.0, 1.0, 1e6)
    minutes = Minutes(0.0, before)
    minutes.look(before, 1.0)
    assert minutes.per_minute(1.0) == (0, 0)
    minutes.look(before._replace(sessions=1002, round_trips_saved=901), 61.0)
    assert sum(minute.sessions for minute in minutes.views(0.0)) == 2
    assert minutes.per_minute(61.0)[0] == pytest.approx(60 / 61, rel=0.1)
