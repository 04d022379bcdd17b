"""The soak in short; `make soak` is the real one."""

from __future__ import annotations

import pytest

from bench.soak import Verdict, shorts, soaked


@pytest.mark.netns
def test_traffic_of_all_kinds_while_everything_is_disturbed() -> None:
    verdict = soaked(9.0, 25.0, pause=0.8)
    print(verdict)
    assert not verdict.complaints, str(verdict)
    assert verdict.balance.clients > 60
    assert len(verdict.deeds) >= 4


def test_short_sessions_leave_nothing_behind() -> None:
    verdict = shorts(1500)
    print(verdict)
    # A tenth of so few is no time to settle in; what is left open shows at once.
    assert not [one for one in verdict.complaints if not one.startswith("memory")], str(verdict)
    assert verdict.memory[1] < verdict.memory[0] * 1.2
    assert verdict.balance.outcomes["ok"] == 1500


def test_a_verdict_says_what_is_wrong() -> None:
    assert "everything is accounted for" in str(Verdict())
    assert "3 were lost" in str(Verdict(complaints=["3 were lost"]))
