from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import Loaded
from proxy.config.admission import Amount, Rate
from proxy.config.scalars import BadScalar
from proxy.core.limits import NO_CAPS, Caps

FILE = """\
listeners:
  a: {bind: '127.0.0.1:1', mode: forward, to: 'h:1', limits: {connections: 10000, per_client: 256,
      accept_rate: 2000/s, client_rate: 30/m}}
  b: {bind: '127.0.0.1:2', mode: forward, to: 'h:1'}
limits: {connections: 50000}
"""


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100/s", 100.0), ("0.5/s", 0.5), ("30/m", 0.5), ("90/h", 0.025), ("1/h", 1 / 3600), ("none", None)],
)
def test_rates(text: str, rate: float | None) -> None:
    assert Rate.read(text).value == rate
    assert Rate.read(str(Rate.read(text))) == Rate.read(text)


@given(st.integers(1, 99_999_999), st.sampled_from("smh"))
def test_a_rate_is_written_as_it_is_read(number: int, unit: str) -> None:
    rate = Rate.read(f"{number}/{unit}")
    assert Rate.read(str(rate)) == rate


@pytest.mark.parametrize(
    "text", ["", "100", "100/x", "/s", "-1/s", "1e3/s", "0/s", "0.000/m", "١/s", "100/s "]
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(BadScalar, match="; write a rate like 100/s"):
        Rate.read(text)


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("10000000", 10_000_000), ("none", None)])
def test_amounts(text: str, number: int | None) -> None:
    assert Amount.read(text).value == number
    assert Amount.read(str(Amount.read(text).plain())) == Amount.read(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "10000001", "many", "١"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(BadScalar, match="write a number from 1 to 10000000, or none"):
        Amount.read(text)


def test_limits_of_a_listener_and_of_all(loaded: Callable[[str], Loaded]) -> None:
    snapshot = loaded(FILE).snapshot
    a, b = snapshot.listeners
    assert a.limits == Caps(10_000, 256, 2000.0, 0.5)
    assert (b.limits, snapshot.limits) == (NO_CAPS, Caps(connections=50_000))


def test_who_the_process_becomes(loaded: Callable[[str], Loaded]) -> None:
    assert (loaded(FILE).snapshot.user, loaded(FILE).snapshot.group) == (None, None)
    snapshot = loaded(FILE + "user: nobody\ngroup: nogroup\n").snapshot
    assert (snapshot.user, snapshot.group) == ("nobody", "nogroup")


def test_what_a_client_may_not_have_anyway_is_pointless(loaded: Callable[[str], Loaded]) -> None:
    text = (
        FILE.replace("per_client: 256", "per_client: 10000")
        + "limits: {accept_rate: 1/s, client_rate: 60/m}\n"
    )
    warnings = [str(one) for one in loaded(text.replace("limits: {connections: 50000}\n", "")).warnings]
    said = [line.partition(": ")[2].partition("\n")[0] for line in warnings]
    assert any(
        "listeners.a.limits.per_client: 10000 is not below connections, which is 10000" in line
        for line in warnings
    ), said
    assert any(
        "limits.client_rate: 1/s is not below accept_rate, which is 1/s" in line for line in warnings
    ), said
    assert len(warnings) == 2
