"""One dial after the other, on paths that help and paths that do not; the wire is asked what was really sent."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest
import trio

from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.core.fastopen import PLAIN_PLAN, Open, Plan
from proxy.core.outcomes import Reason
from proxy.lab.behaviours import answers
from proxy.lab.clients import ask
from proxy.lab.rules import Direction
from proxy.lab.servers import Server
from proxy.lab.wan import Wan
from proxy.net import dial
from proxy.net.upstream import DialFailed, Upstream
from tests.net.watching import watching

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.04)]

HEDGE = 0.06
NEVER = 300.0  # a hedge that must not be seen, however long the machine stands still
LONG = 60.0
DATA = Plan(Open.DATA, 1000, NEVER, probe=False, era=0)
EMPTY = Plan(Open.EMPTY, 0, NEVER, probe=False, era=0)
PING = b"ping"


async def dialled(
    endpoint: Endpoint, plan: Plan, early: bytes = PING, *, timeout: float = LONG, redial: bool = True
) -> Upstream:
    failure: DialFailed | None = None
    async with watching() as watch:
        attempt = dial.begin(endpoint, early, plan, watch.clock)
        try:
            return await dial.connect(endpoint, attempt, watch, timeout, hedge=plan.hedge, redial=redial)
        except DialFailed as failed:
            failure = failed  # the nursery would wrap it
    assert failure is not None
    raise failure


def warm(wan: Wan) -> tuple[Server, Endpoint]:
    """A server whose cookie the kernel has; the lab begins anew."""
    server = wan.serve(answers())
    ask(server.address, b"once")
    server.wait(1, ended=False)
    wan.forget()
    return server, Endpoint(*server.address)


def unfinished() -> int:
    """Sockets of the client's namespace that still wait for a SYN-ACK."""
    rows = Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
    return sum(row.split()[3] == "02" for row in rows)  # TCP_SYN_SENT


async def test_the_early_data_rides_in_the_syn(wan: Wan) -> None:
    server, endpoint = warm(wan)
    upstream = await dialled(endpoint, DATA)
    with upstream.sock:
        assert (upstream.evidence, upstream.sent, upstream.syn_bytes) == (Evidence.SYN_DATA_ACKED, 4, 4)
        assert (upstream.plain, upstream.hedged, upstream.repeated) == (False, False, 0)
        (syn,) = wan.capture().syns(dst=server.address)
        assert syn.payload == PING
    assert server.wait(2)[1].received == PING


async def test_no_more_than_the_plan_allows(wan: Wan) -> None:
    _, endpoint = warm(wan)
    upstream = await dialled(endpoint, DATA._replace(limit=3))
    with upstream.sock:
        assert upstream.sent == 3


async def test_a_first_contact_asks_for_a_cookie(wan: Wan) -> None:
    server = wan.serve(answers())
    upstream = await dialled(Endpoint(*server.address), DATA)
    with upstream.sock:
        assert (upstream.evidence, upstream.sent) == (Evidence.COOKIE_REQUESTED, 0)


async def test_an_empty_open_shows_the_cookie_and_carries_nothing(wan: Wan) -> None:
    server, endpoint = warm(wan)
    upstream = await dialled(endpoint, EMPTY)
    with upstream.sock:
        assert (upstream.evidence, upstream.sent) == (Evidence.EMPTY_OPEN, 0)
        (syn,) = wan.capture().syns(dst=server.address)
        assert (syn.payload, bool(syn.cookie)) == (b"", True)


@pytest.mark.parametrize(
    ("middlebox", "plan", "evidence"),
    [
        ("drops-syn-data", DATA, Evidence.SYN_DATA_LOST),
        ("drops-option", DATA, Evidence.SYN_DATA_LOST),
        ("drops-option", EMPTY, Evidence.OPTION_LOST),
    ],
)
async def test_where_the_syn_is_lost_a_plain_dial_joins(
    wan: Wan, middlebox: str, plan: Plan, evidence: Evidence
) -> None:
    server, endpoint = warm(wan)
    with wan.through(middlebox):
        upstream = await dialled(endpoint, plan._replace(hedge=HEDGE))
    with upstream.sock:
        assert upstream.evidence is evidence
        assert (upstream.hedged, upstream.plain, upstream.sent) == (True, True, 0)
        assert upstream.repeated == upstream.syn_bytes == (4 if plan is DATA else 0)
        assert upstream.connected - upstream.started >= HEDGE + wan.rtt
        fast, plain = wan.capture().syns(dst=server.address)
        assert fast.packet.sport != plain.packet.sport == upstream.sock.getsockname()[1], (
            "the kernel was first"
        )
        assert (fast.dropped, plain.payload, plain.packet.fast_open) == (True, b"", None)
    assert not unfinished(), "the loser is closed"


@pytest.mark.parametrize("middlebox", ["resets-syn-data", "rejects-syn-data"])
async def test_where_the_syn_is_refused_a_plain_dial_follows_at_once(wan: Wan, middlebox: str) -> None:
    server, endpoint = warm(wan)
    with wan.through(middlebox):
        upstream = await dialled(endpoint, DATA)
    with upstream.sock:
        assert (upstream.evidence, upstream.redialled, upstream.hedged) == (Evidence.REFUSED, True, False)
        assert (upstream.sent, upstream.repeated) == (0, 4)
        assert upstream.connected - upstream.started < NEVER / 10
        assert len(wan.capture().syns(dst=server.address)) == 2


async def test_a_closed_port_is_refused_after_one_redial(wan: Wan) -> None:
    nobody = Endpoint(wan.fresh_address(), 81)
    with pytest.raises(DialFailed) as failed:
        await dialled(nobody, EMPTY)
    assert (failed.value.reason, failed.value.errno) == (Reason.REFUSED, errno.ECONNREFUSED)
    assert len(wan.capture().syns(dst=nobody)) == 2


async def test_a_plain_dial_is_not_repeated(wan: Wan) -> None:
    nobody = Endpoint(wan.fresh_address(), 81)
    with pytest.raises(DialFailed, match="ECONNREFUSED"):
        await dialled(nobody, PLAIN_PLAN)
    assert len(wan.capture().syns(dst=nobody)) == 1


@pytest.mark.parametrize("plan", [DATA._replace(hedge=HEDGE), PLAIN_PLAN])
async def test_nobody_answers_in_time(wan: Wan, plan: Plan) -> None:
    nobody = Endpoint(wan.unrouted_address(), 80)
    started = trio.current_time()
    with pytest.raises(DialFailed) as failed:
        await dialled(nobody, plan, timeout=1.5)
    assert failed.value.reason is Reason.CONNECT_TIMEOUT
    assert 1.5 <= trio.current_time() - started < 20, "the kernel gives up after two minutes"
    dials = {syn.packet.sport for syn in wan.capture().way(Direction.UP).syns(dst=nobody)}
    assert len(dials) == (1 if plan is PLAIN_PLAN else 2)
    assert not unfinished()


async def test_a_dial_that_nobody_waits_for_leaves_no_socket(wan: Wan) -> None:
    with trio.move_on_after(2 * HEDGE) as scope:
        await dialled(Endpoint(wan.unrouted_address(), 80), DATA._replace(hedge=HEDGE))
    assert scope.cancelled_caught
    assert not unfinished()


async def test_without_a_hedge_the_kernel_tries_again(wan: Wan) -> None:
    _, endpoint = warm(wan)
    with wan.through("drops-syn-data"):
        upstream = await dialled(endpoint, DATA._replace(hedge=None))
    with upstream.sock:
        assert (upstream.evidence, upstream.hedged, upstream.plain) == (Evidence.SYN_DATA_LOST, False, False)
        assert upstream.connected - upstream.started > 0.9


async def test_a_kernel_without_fast_open_dials_plainly(wan: Wan) -> None:
    server = wan.serve(answers())
    wan.client.sysctl("net.ipv4.tcp_fastopen", 0)
    upstream = await dialled(Endpoint(*server.address), DATA)
    with upstream.sock:
        assert (upstream.evidence, upstream.plain) == (Evidence.UNAVAILABLE, True)
        assert upstream.unavailable in {errno.EOPNOTSUPP, errno.ENOTSUP}
        (syn,) = wan.capture().syns(dst=server.address)
        assert (syn.payload, syn.packet.fast_open) == (b"", None)


async def test_a_very_long_path_is_no_loss(wan: Wan) -> None:
    """The first attempt is closed before the kernel would repeat its SYN, and so before it could be answered."""
    _, endpoint = warm(wan)
    wan.set_rtt(1.2)
    upstream = await dialled(endpoint, DATA._replace(hedge=HEDGE))
    with upstream.sock:
        assert (upstream.evidence, upstream.hedged, upstream.plain) == (Evidence.PLAIN, True, True)
        assert upstream.connected - upstream.started < 1.2 + HEDGE + 0.5
    wan.forget()
    upstream = await dialled(endpoint, DATA._replace(hedge=1.8))  # as where the round trip is known
    with upstream.sock:
        assert (upstream.evidence, upstream.hedged) == (Evidence.SYN_DATA_ACKED, False)


@pytest.mark.parametrize("plan", [PLAIN_PLAN, DATA._replace(hedge=HEDGE), EMPTY._replace(hedge=None)])
async def test_four_syns_at_most_go_to_one_address(wan: Wan, plan: Plan) -> None:
    nobody = Endpoint(wan.unrouted_address(), 80)
    with pytest.raises(DialFailed) as failed:
        await dialled(nobody, plan)
    assert failed.value.reason is Reason.CONNECT_TIMEOUT
    assert len(wan.capture().way(Direction.UP).syns(dst=nobody)) == dial.MOST_SYNS


async def test_the_other_family_joins_where_this_one_is_silent(wan: Wan) -> None:
    server = wan.serve(answers(), version=6)
    other, silent = Endpoint(*server.address), Endpoint(wan.unrouted_address(), 80)
    async with watching() as watch:
        attempt = dial.begin(silent, PING, DATA, watch.clock)
        upstream = await dial.connect(silent, attempt, watch, LONG, hedge=HEDGE, redial=True, others=[other])
    with upstream.sock:
        assert (upstream.endpoint, upstream.evidence, upstream.sent) == (other, Evidence.PLAIN, 0)


async def test_what_is_connected_at_once_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        endpoint = Endpoint(str(path), 0)
        attempt = dial.begin(endpoint, PING, DATA, trio.current_time)
        upstream = dial.at_once(endpoint, attempt, trio.current_time)
        assert upstream is not None
        with upstream.sock:
            assert (upstream.evidence, upstream.plain, upstream.info) == (Evidence.PLAIN, True, None)
    with pytest.raises(DialFailed, match="ECONNREFUSED"):
        dial.begin(endpoint, PING, DATA, trio.current_time)


async def test_a_near_endpoint_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = Endpoint(*listener.getsockname())
        before = trio.current_time()
        dialled = dial.near(endpoint, PING, trio.current_time)
        with dialled.sock:
            assert dialled.sent == len(PING)
            assert before <= dialled.started <= dialled.made <= trio.current_time()
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(100) == PING
            assert accepted.recv(100) == b""


async def test_of_much_a_near_endpoint_is_told_what_the_kernel_takes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint, much = Endpoint(*listener.getsockname()), bytes(1 << 24)
        dialled = dial.near(endpoint, much, trio.current_time)
        dialled.sock.close()
        assert dialled.connected
        assert 0 < dialled.sent < len(much)
        accepted, _ = listener.accept()
        with accepted:
            assert len(accepted.recv(len(much), socket.MSG_WAITALL)) == dialled.sent


async def test_one_that_is_not_near_after_all_is_waited_for(wan: Wan) -> None:
    server = wan.serve(answers())
    endpoint = Endpoint(*server.address)
    async with watching() as watch:
        dialled = dial.near(endpoint, PING, watch.clock)
        assert not dialled.connected
        upstream = await dial.connect(endpoint, dial.under_way(dialled), watch, LONG)
    with upstream.sock:
        assert (upstream.evidence, upstream.sent) == (Evidence.PLAIN, 0)
        upstream.sock.send(PING)
    await trio.to_thread.run_sync(server.wait, 1)
    assert server.received == [PING]
    (syn,) = wan.capture().syns(dst=server.address)
    assert (syn.payload, syn.packet.fast_open) == (b"", None)


async def test_one_that_is_gone_is_refused_and_leaves_no_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = Endpoint(*free.getsockname())
    with pytest.raises(DialFailed) as failed:
        dial.near(nobody, PING, trio.current_time)
    assert (failed.value.reason, failed.value.errno) == (Reason.REFUSED, errno.ECONNREFUSED)


async def test_one_that_refuses_late_is_closed(wan: Wan) -> None:
    nobody = Endpoint(wan.fresh_address(), 81)
    async with watching() as watch:
        dialled = dial.near(nobody, PING, watch.clock)
        assert not dialled.connected
        with pytest.raises(DialFailed, match="ECONNREFUSED"):
            await dial.connect(nobody, dial.under_way(dialled), watch, LONG)
    assert dialled.sock.fileno() == -1
