"""The soak's clients find the listeners that they want, and every mode there is has some."""

from __future__ import annotations

from bench.ways import document, far_side, kinds, redirected
from proxy.core.snapshot import Mode

SERVER = ("127.0.0.1", 7)
MODES = ["transparent", "tproxy"]


def test_every_mode_has_clients() -> None:
    gate = dict.fromkeys(far_side("0" * 32)["listeners"], ("127.0.0.1", 8))
    near = document(SERVER[1], ("192.0.2.1", 80), gate, "0" * 32, 2, MODES)
    listeners = near["listeners"]
    assert {listener for _, listener, _ in kinds(SERVER, MODES).values()} == set(listeners)
    modes = {one["mode"] for side in (near, far_side("0" * 32)) for one in side["listeners"].values()}
    assert modes == {mode.value for mode in Mode}


def test_what_the_user_may_not_do_is_left_out() -> None:
    assert set(redirected()) <= set(MODES)
    listeners = {listener for _, listener, _ in kinds(SERVER, []).values()}
    assert listeners.isdisjoint(MODES)
