"""What the two sides say survives the way, and what is none of it is refused."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config import load
from proxy.core.account import Account
from proxy.core.address import Endpoint
from proxy.core.availability import Outages
from proxy.core.evidence import Evidence
from proxy.core.fastopen import State
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.patience import Patience
from proxy.core.standings import Remembered
from proxy.core.warming import Warming, Warmth
from proxy.service.crew import orders
from proxy.service.state import ListenerHabits

HERE = Endpoint("192.0.2.1", 80)
ACCOUNT = Account(
    sessions=2,
    evidence={Evidence.PLAIN: 2},
    endings={(EndedBy.PROXY, Stage.RELAY, Reason.CLOSED): 2},
    saved=0.5,
)
REMEMBERED = Remembered("192.0.2.1", 80, State.QUARANTINED, 5.0, 60.0, Evidence.SYN_DATA_LOST, rtt=0.1)
HABITS = ListenerHabits("a", "c", Patience().habits())


@pytest.mark.parametrize(
    "order",
    [
        orders.Begin(1, 2, "info", "json"),
        orders.Take([1, 2]),
        orders.Serve(3, b"x", {"a": [1]}, takes_syn_data=True),
        orders.Learn([REMEMBERED], [HABITS]),
        orders.WarmUp(),
        orders.Level("debug", "auto"),
        orders.Leave(),
        orders.Drain(0.5),
    ],
)
def test_orders(order: orders.Order) -> None:
    assert orders.order(orders.encode(order)) == order
    with pytest.raises(msgspec.DecodeError):
        orders.answer(orders.encode(order))


@pytest.mark.parametrize(
    "answer",
    [
        orders.Serving(1),
        orders.Left(),
        orders.Drained(3),
        orders.Report(
            [("a", "c", HERE, 1), ("a", "c", None, 2)], [], [], [REMEMBERED], [HABITS],
            [orders.Spent("a", "c", HERE, ACCOUNT), orders.Spent("a", "c", None, ACCOUNT)], [(HERE, True)], (1, 2, 3),
            outages={"c": Outages(2, frozenset({HERE}))},
            warming=Warming(1.0, 2.0, over=False, endpoints=3, found={Warmth.HELD: 2}),
        ),
    ],
)  # fmt: skip
def test_answers(answer: orders.Answer) -> None:
    assert orders.answer(orders.encode(answer)) == answer


@pytest.mark.parametrize(
    "raw", [b"\x81\xa4type\xa6Re\xdd\xffor", b"\x82\xa1a" + b"\x91" * 500_000 + b"\xc0\xa4type\xa4Left"]
)
def test_what_msgspec_has_other_words_for(raw: bytes) -> None:
    for read in (orders.answer, orders.order):
        # Python 3.14 goes as deep as the stack, and may read the second one.
        with suppress(msgspec.DecodeError):
            assert read(raw) == orders.Left()


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_nonsense_is_refused(raw: bytes) -> None:
    try:
        orders.answer(raw)
    except msgspec.DecodeError:
        return
    assert raw


def test_a_snapshot_survives_whole(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(
        """
listeners:
  web: {bind: ["127.0.0.1:0", "unix:/tmp/x"], mode: mixed, users: {alice: "pw"}, allow: [10.0.0.0/8, loopback]}
clusters:
  api: {endpoints: ["a.example:80"], health: {every: 1s}, via: {socks: "u:p@gw:1080"}}
routes:
  - {match: {host: ["*.x.example", "/a[0-9]+/"], network: [private]}, to: api}
  - {match: {port: 80}, refuse: "no"}
  - {to: direct}
limits: {connections: 5}
"""
    )
    snapshot = load(str(file)).snapshot
    copy = orders.unpack(orders.pack(snapshot))
    assert copy == snapshot
    assert copy.clusters["api"].via == snapshot.clusters["api"].via
