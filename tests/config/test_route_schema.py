from __future__ import annotations

from proxy.config.route_schema import Direct, Match, Route
from proxy.core.destinations import DENIED


def test_what_is_not_said_matches_always_and_goes_nowhere_dangerous() -> None:
    assert Route().match == Match()
    assert [str(one) for one in Direct().deny] == list(DENIED)
