"""Many short sessions, one after the other, leave nothing behind: no memory, no descriptor, no task.

With ``THOROUGH=1`` (some five minutes) as many as is promised: memory after 200,000 is within 5 % of that after 20,000.
"""

from __future__ import annotations

import os

from bench.soak import shorts

THOROUGH = os.environ.get("THOROUGH") == "1"
NUMBER = 200_000 if THOROUGH else 1_500


def test_short_sessions_leave_nothing_behind() -> None:
    verdict = shorts(NUMBER)
    print(verdict)
    # A tenth of so few is no time to settle in; what is left open shows at once.
    complaints = [one for one in verdict.complaints if THOROUGH or not one.startswith("memory")]
    assert not complaints, str(verdict)
    before, after = verdict.held["it"]
    assert after.memory < before.memory * (1.05 if THOROUGH else 1.2)
    assert (after.descriptors, after.tasks) == (before.descriptors, before.tasks)
    assert verdict.balance.outcomes["ok"] == NUMBER
