"""Clusters of several endpoints: whose turn it is, who is left alone, both address families, and where we come from."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from proxy.lab.behaviours import answers
from proxy.lab.clients import ask
from proxy.lab.wan import CLIENT, Wan
from proxy.lab.wire import LINK
from tests.wire.program import GET, Program, forward

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
    eject = {"after": 2, "time": "1s"}
    cluster = forward(server, endpoints=[dead, text(server.address)], eject=eject)
    with Program(wan.client, {"a": cluster}) as program:
        for _ in range(8):
            assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        tried = [program.session(number).get("tried", 1) for number in range(1, 9)]
        assert tried == [2, 1, 2, 1, 1, 1, 1, 1]
        time.sleep(1.1)
        ask(program.address(), GET, fast_open=False)
        ask(program.address(), GET, fast_open=False)
        assert 2 in {program.session(number).get("tried", 1) for number in (9, 10)}, "it gets another try"


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
        began = time.monotonic()
        assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        assert 0.24 < time.monotonic() - began < 0.6
        line = program.session(1)
        assert line["endpoint"] == text(server.address)
        assert server.wait(1)[0].received == GET
        assert not server.wait(1)[0].had_syn_data
        wan.forget()
        assert not [syn for syn in wan.capture().syns(dst=server.address) if syn.payload]
        ask(program.address(), GET, fast_open=False)
        began = time.monotonic()
        assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        assert time.monotonic() - began < 0.2, "the slow one is left alone by now"


def test_where_connections_come_from(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    source = wan.fresh_source()
    with Program(wan.client, {"a": forward(server, source=source)}) as program:
        for _ in range(2):
            assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        first, second = server.wait(2)
        assert {first.peer[0], second.peer[0]} == {source} != {CLIENT}
        assert second.had_syn_data, "it goes for a fast open too"


def test_an_interface_and_a_mark(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    with Program(wan.client, {"a": forward(server, source={"interface": LINK, "mark": 7})}) as program:
        assert ask(program.address(), GET, fast_open=False).reply == b"pong"


def test_an_interface_that_is_not_there(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    with Program(wan.client, {"a": forward(server, source={"interface": "nowhere0"})}) as program:
        assert not ask(program.address(), GET, fast_open=False).reply
        assert "the source interface nowhere0 is not to be had" in str(program.session(1)["detail"])


def test_health_checks_see_what_comes_and_goes(wan: Wan) -> None:
    good = wan.serve(answers(request=len(GET)))
    late = (wan.fresh_address(), 80)
    health = {"every": "200ms", "timeout": "150ms", "rise": 2, "fall": 2}
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
