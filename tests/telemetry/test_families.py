from __future__ import annotations

from proxy.telemetry.counters import Counters
from proxy.telemetry.exposition import Exposition
from proxy.telemetry.families import OF_WAYS, expose
from proxy.telemetry.region import OfWay
from proxy.telemetry.sums import add_up
from tests.admin.house import a_record

HISTOGRAMS = {"DURATION", "FIRST_BYTE_FAST", "FIRST_BYTE_PLAIN", "FIRST_BYTE_SPARE", "EVIDENCE"}


def test_everything_that_is_counted_is_told() -> None:
    assert {slot.name for slot in OfWay} == {counted.slot.name for counted in OF_WAYS} | HISTOGRAMS


def test_names_and_meanings() -> None:
    assert len({counted.name for counted in OF_WAYS}) == len(OF_WAYS)
    for counted in OF_WAYS:
        assert counted.name.endswith("_total")
        assert counted.meaning.endswith(".")


def test_the_overflow_is_not_shown_until_it_is_used() -> None:
    counters = Counters()
    counters.accepted("a")
    counters.ended(a_record())
    out = Exposition()
    expose(add_up([counters.region]), out)
    assert '"other"' not in out.body().decode()
