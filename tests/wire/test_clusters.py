"""Clusters of several endpoints: whose turn it is, who is left alone, both address families, and where we come from."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from proxy.lab.behaviours import answers
from proxy.lab.clients import ask
from proxy.lab.wan import CLIENT, Wan
from proxy.lab.wire import LINK
from tests.wire.program import GET, Program, forward, until

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.02)]


def text(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def endpoints(program: Program, sessions: int) -> list[object]:
    """Where so many sessions went."""
    for _ in range(sessions):
        assert ask(program.address(), GET, fast_open=False).reply == b"pong"
    return [program.session(number)["endpoint"] for number in range(1, sessions + 1)]


def test_weights(wan: Wan) -> None:
    one, other = (wan.serve(answers(request=len(GET))) for _ in range(2))
    listed = [{"address": text(one.address), "weight": 3}, text(other.address)]
    with Program(wan.client, {"a": forward(one, endpoints=listed)}) as program:
        assert Counter(endpoints(program, 8)) == {text(one.address): 6, text(other.address): 2}


def test_a_client_stays_with_its_endpoint(wan: Wan) -> None:
    servers = [text(wan.serve(answers(request=len(GET))).address) for _ in range(4)]
    with Program(wan.client, {"a": forward(servers[0], endpoints=servers, balance="source_hash")}) as program:
        assert len(set(endpoints(program, 5))) == 1


def test_an_endpoint_whose_dials_fail_is_left_alone(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    dead = f"{wan.fresh_address()}:81"
    eject = {"after": 2, "time": "3s"}
    cluster = forward(server, endpoints=[dead, text(server.address)], eject=eject)
    with Program(wan.client, {"a": cluster}) as program:
        for _ in range(8):
            assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        tried = [program.session(number).get("tried", 1) for number in range(1, 9)]
        assert tried == [2, 1, 2, 1, 1, 1, 1, 1]
        ejected = program.wait_for("endpoint_ejected")
        assert (ejected["cluster"], ejected["endpoint"], ejected["seconds"]) == ("to-a", dead, 3.0)

        def tried_another_time() -> bool:
            ask(program.address(), GET, fast_open=False)
            return any(line.get("tried") == 2 for line in program.events("session")[8:])

        until(tried_another_time, 10)
        assert not program.events("endpoint_back")
        wan.serve(answers(request=len(GET)), host=dead.partition(":")[0], port=81)

        def back() -> bool:
            ask(program.address(), GET, fast_open=False)
            return bool(program.events("endpoint_back"))

        until(back, 20)
        assert program.wait_for("endpoint_back")["endpoint"] == dead


def test_a_dead_address_family_costs_a_quarter_of_a_second_once(wan: Wan) -> None:
    """RFC 8305: the other family is dialled beside the silent one, without a byte of the client's in its SYN."""
    if not wan.ipv6:
        pytest.skip("this kernel has no IPv6")
    server = wan.serve(answers(request=len(GET)))
    nobody = (wan.unrouted_address(6), 80)
    cluster = forward(
        server, endpoints=[text(nobody), text(server.address)], balance="first", hedge="100ms",
        replay="any", eject={"after": 2, "time": "1m"},
    )  # fmt: skip
    with Program(wan.client, {"a": cluster}) as program:
        assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        line = program.session(1)
        seen = wan.capture()
        (first, *_), (other, *_) = seen.syns(dst=nobody), seen.syns(dst=server.address)
        assert 0.24 < other.entered - first.entered < 4.0, "not after the 5 s that a dial may take"
        assert line["endpoint"] == text(server.address)
        assert server.wait(1)[0].received == GET
        assert not server.wait(1)[0].had_syn_data
        wan.forget()
        assert not [syn for syn in wan.capture().syns(dst=server.address) if syn.payload]
        ask(program.address(), GET, fast_open=False)
        program.session(2)
        wan.forget()
        assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        program.session(3)
        assert not wan.capture().syns(dst=nobody), "the slow one is left alone by now"


def test_where_connections_come_from(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    source = wan.fresh_source()
    with Program(wan.client, {"a": forward(server, source=source, hedge="off")}) as program:
        for _ in range(2):
            assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        first, second = server.wait(2)
        assert {first.peer[0], second.peer[0]} == {source} != {CLIENT}
        assert second.had_syn_data, "it goes for a fast open too"


@contextlib.contextmanager
def counted(rule: str) -> Iterator[Callable[[], int]]:
    """How many packets that leave this namespace a rule of nft has matched so far."""
    rules = f"table inet seen {{ chain out {{ type filter hook output priority 0; {rule} counter\n }}\n }}"
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield lambda: _packets("seen")
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "seen"], check=True)


def _packets(table: str) -> int:
    said = subprocess.run(["nft", "list", "table", "inet", table], capture_output=True, text=True, check=True)
    found = re.search(r"packets (\d+)", said.stdout)
    assert found, said.stdout
    return int(found[1])


@pytest.mark.root
def test_a_mark_is_on_every_packet(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    host, port = server.address
    clusters = {"a": forward(server, source={"mark": 7}), "b": forward(server)}
    with Program(wan.client, clusters) as program:
        for name in clusters:
            with counted(f"ip daddr {host} tcp dport {port} meta mark 7") as marked:
                for _ in range(2):  # the second dial fast-opens
                    assert ask(program.address(name), GET, fast_open=False).reply == b"pong"
                assert (marked() >= 6) is (name == "a")
        with counted(f"ip daddr {host} tcp dport {port} meta mark != 7") as unmarked:
            assert ask(program.address("a"), GET, fast_open=False).reply == b"pong"
            assert not unmarked()


@pytest.mark.root
def test_an_interface_is_held_to(wan: Wan) -> None:
    """Where a better route leads elsewhere."""
    server = wan.serve(answers(request=len(GET)))
    host = server.address[0]
    clusters = {
        "a": forward(server, source={"interface": LINK}),
        "b": forward(server, connect={"timeout": "500ms", "retries": 0}),
    }
    subprocess.run(["ip", "link", "add", "elsewhere", "type", "veth", "peer", "name", "nowhere"], check=True)
    try:
        subprocess.run(["ip", "link", "set", "elsewhere", "up"], check=True)
        subprocess.run(["ip", "link", "set", "nowhere", "up"], check=True)
        subprocess.run(["ip", "route", "add", f"{host}/32", "dev", "elsewhere", "src", CLIENT], check=True)
        with Program(wan.client, clusters) as program:
            assert ask(program.address("a"), GET, fast_open=False).reply == b"pong"
            assert not ask(program.address("b"), GET, fast_open=False).reply
    finally:
        subprocess.run(["ip", "link", "del", "elsewhere"], check=True)


@pytest.mark.parametrize(
    ("source", "problem", "without"),
    [
        ({"interface": "nowhere0"}, "the source interface nowhere0 is not to be had: No such device", ""),
        ({"address": "192.0.2.99"}, "the source address 192.0.2.99 is not of this machine: Cannot assign", ""),
        ({"mark": 7}, "cannot be marked with 7: Operation not permitted; it needs the capability CAP_NET_ADMIN",
         "-net_admin,-net_raw"),
    ],
    ids=["interface", "address", "mark"],
)  # fmt: skip
def test_a_source_that_is_not_to_be_had_is_told_at_the_start_and_in_every_session(
    wan: Wan, source: dict[str, object], problem: str, without: str
) -> None:
    server = wan.serve(answers(request=len(GET)))
    prefix = ["setpriv", f"--bounding-set={without}", f"--inh-caps={without}"] if without else []
    with Program(wan.client, {"a": forward(server, source=source)}, prefix=prefix) as program:
        assert problem in str(program.wait_for("no_source")["problem"])
        assert not ask(program.address(), GET, fast_open=False).reply
        line = program.session(1)
        assert problem in str(line["detail"])
        assert (line["reason"], line["ended_by"]) == ("no_source", "proxy")


def test_health_checks_see_what_comes_and_goes(wan: Wan) -> None:
    good = wan.serve(answers(request=len(GET)))
    late = (wan.fresh_address(), 80)
    # Nobody is refused at once; how long a check may take is for a machine that stands still for a while.
    health = {"every": "200ms", "timeout": "5s", "rise": 2, "fall": 2}
    cluster = forward(good, endpoints=[text(late), text(good.address)], health=health, balance="first")
    with Program(wan.client, {"a": cluster}) as program:
        assert program.wait_for("endpoint_down")["endpoint"] == text(late)
        assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        assert "tried" not in program.session(1)
        server = wan.serve(answers(request=len(GET)), host=late[0])
        assert program.wait_for("endpoint_up")["endpoint"] == text(late)
        assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        line = program.session(2)
        assert line["endpoint"] == text(late)
        assert line["evidence"] == "syn_data_acked", "the checks have fetched a cookie"
        assert any(conversation.received == GET for conversation in server.wait(3))
    assert any(not conversation.received for conversation in good.wait(3)), "a check says nothing"
