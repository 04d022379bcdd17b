"""Clusters at work, before a real DNS server on loopback and files that change."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from proxy.core.address import Authority, Endpoint
from proxy.core.clusters import Balance, Cluster, Connect, EndpointFile, Health, Origin, Service, Via
from proxy.core.snapshot import Dns
from proxy.net.listening import Listening
from proxy.net.resolve import NoSuchHost, Resolver
from proxy.sessions import pools as module
from proxy.sessions.pools import Pools
from tests.net.name_server import name_server

A, B = Endpoint("192.0.2.1", 80), Endpoint("192.0.2.2", 80)


async def test_numbers_need_no_resolver() -> None:
    pools = Pools(Resolver())
    assert list(await pools.candidates(Cluster("c", (A,)))) == [A]
    cluster = Cluster("d", (A, B))
    assert [(await pools.candidates(cluster))[0] for _ in range(4)] == [A, B, A, B]


async def test_what_is_known_is_there_at_once() -> None:
    pools = Pools(Resolver())
    cluster = Cluster("c", (A, B))
    assert list(pools.candidates_now(cluster)) == [], "nobody has looked yet"
    assert list(await pools.candidates(cluster)) == [A, B]
    assert list(pools.candidates_now(cluster)) == [B, A]
    assert list(pools.candidates_now(Cluster("d", (A,)))) == [A]


async def test_names_and_services_are_looked_up_and_weighed() -> None:
    async with name_server() as server:
        server.records["api.example", "A"] = ["192.0.2.1"]
        server.records["b.example", "A"] = ["192.0.2.2"]
        server.records["_x._tcp.example", "SRV"] = ["1 7 8080 b.example."]
        cluster = Cluster("c", (Authority("api.example", 80), Service("_x._tcp.example")), weights=(2, 1))
        members = await Pools(Resolver(Dns(servers=(server.endpoint,)))).of(cluster).members()
        assert (members.endpoints, members.weights) == ((A, Endpoint("192.0.2.2", 8080)), (2, 7))


async def test_one_missing_name_does_not_spoil_the_others() -> None:
    async with name_server() as server:
        pools = Pools(Resolver(Dns(servers=(server.endpoint,))))
        missing = Authority("missing.example", 80)
        assert list(await pools.candidates(Cluster("c", (missing, B)))) == [B]
        with pytest.raises(NoSuchHost, match=r"missing\.example"):
            await pools.candidates(Cluster("d", (missing,)))


async def test_what_others_say_never_leads_to_the_admin(tmp_path: Path) -> None:
    file, listening = tmp_path / "endpoints.yaml", Listening()
    listening.follow_admin([("127.0.0.1", 7414), (str(tmp_path / "admin.sock"), 0)])
    file.write_text(f"[127.0.0.1:7414, 'unix:{tmp_path}/admin.sock']")
    async with name_server() as server:
        server.records["admin.example", "A"] = ["127.0.0.1"]
        server.records["some.example", "A"] = ["127.0.0.1", "192.0.2.1"]
        server.records["mapped.example", "AAAA"] = ["64:ff9b::7f00:1"]
        server.records["_x._tcp.example", "SRV"] = ["1 7 7414 admin.example."]
        pools = Pools(Resolver(Dns(servers=(server.endpoint,))), None, listening.is_admin)
        origins: list[Origin] = [
            Authority("admin.example", 7414),
            Authority("mapped.example", 7414),
            Service("_x._tcp.example"),
            EndpointFile(str(file)),
        ]
        for number, origin in enumerate(origins):
            with pytest.raises(NoSuchHost, match="the admin of this proxy"):
                await pools.candidates(Cluster(str(number), (origin,)))
            kept = await pools.candidates(Cluster(f"and {number}", (origin, B)))
            assert list(kept) == [B]
        some = await pools.candidates(Cluster("some", (Authority("some.example", 7414),)))
        assert list(some) == [Endpoint("192.0.2.1", 7414)]
        other = await pools.candidates(Cluster("other", (Authority("admin.example", 7415),)))
        assert list(other) == [Endpoint("127.0.0.1", 7415)]


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK", 0.0)
    file = tmp_path / "endpoints.yaml"
    pool = Pools(Resolver()).of(Cluster("c", (EndpointFile(str(file)),), balance=Balance.FIRST))
    with pytest.raises(NoSuchHost, match=r"endpoints\.yaml"):
        await pool.candidates()
    file.write_text("- 192.0.2.1:80\n")
    assert await pool.candidates() == [A]
    before = await pool.members()
    assert await pool.members() is before, "the same endpoints are the same members"
    for text, expected in (
        ("- 192.0.2.2:80\n- 192.0.2.1:80\n", [B, A]),
        ("- broken", [B, A]),
        ("- 192.0.2.1:80", [A]),
    ):
        file.write_text(text)
        assert await pool.candidates() == expected
    os.unlink(file)
    assert await pool.candidates() == [A]


async def test_endpoints_that_fail_are_left_alone() -> None:
    told: list[tuple[Endpoint, float | None]] = []
    pools = Pools(Resolver(), lambda _, endpoint, seconds: told.append((endpoint, seconds)))
    pool = pools.of(Cluster("c", (A, B), balance=Balance.FIRST))
    assert await pool.candidates() == [A, B]
    now = trio.current_time()
    assert [pool.failed(A, now) for _ in range(3)] == [False, False, True]
    assert await pool.candidates() == [B, A]
    for _ in range(2):
        pool.began(A)
    assert await pool.candidates() == [A, B]
    assert told == [(A, pytest.approx(10.0)), (A, None)]


async def test_a_pool_outlives_a_reload_that_changes_nothing() -> None:
    pools = Pools(Resolver())
    pool = pools.of(Cluster("c", (A, B)))
    assert pools.of(Cluster("c", (A, B))) is pool
    assert pools.of(Cluster("c", (A,), balance=Balance.FIRST)) is not pool


async def test_a_gateway_is_what_is_dialled() -> None:
    pools = Pools(Resolver())
    name = Authority("x.example", 1)
    cluster = Cluster("c", (name, B), via=Via("socks", A))
    assert list(await pools.candidates(cluster)) == [A]
    assert [pools.destination(cluster) for _ in range(3)] == [name, B, name]
    assert pools.of(cluster) is pools.of(Cluster("c", (name, B), via=Via("socks", A)))


async def test_a_gateway_is_asked_for_what_a_file_names(tmp_path: Path) -> None:
    file = tmp_path / "endpoints.yaml"
    pools = Pools(Resolver())
    cluster = Cluster("c", (EndpointFile(str(file)), B), via=Via("socks", A))
    assert pools.destination(cluster) == B
    file.write_text("- x.example:1\n- y.example:2\n")
    assert {pools.destination(cluster) for _ in range(3)} == {
        Authority("x.example", 1),
        Authority("y.example", 2),
        B,
    }
    assert pools.destination(Cluster("d", (), via=Via("socks", A))) is None


async def test_a_reload_keeps_what_is_known_of_a_cluster() -> None:
    pools = Pools(Resolver())
    before = Cluster("c", (A, B), health=Health())
    pool = pools.of(before)
    members = await pool.members()
    assert pools.health(A) is True
    pool.balancer.availability.checked(A, 0.0, healthy=False, rise=1, fall=1)
    pool.failed(B, trio.current_time())
    same = replace(before)
    pools.follow([same])
    assert pools.of(same) is pool
    assert pool.cluster is same
    changed = replace(before, connect=Connect(retries=0))
    pools.follow([changed])
    other = pools.of(changed)
    assert other is not pool
    assert pools.of(before) is pool, "sessions that began before the reload find their own"
    assert pools.of(changed) is other
    assert other.balancer.availability.out(await other.members(), 0.0) == {A}
    assert members.endpoints == (await other.members()).endpoints
    assert pools.health(A) is False
    assert pools.health(Endpoint("192.0.2.9", 1)) is None
    pools.follow([])
    assert pools.of(changed) is other
    pools.follow([])
    assert pools.of(changed) is not other


async def test_a_reload_brings_another_resolver() -> None:
    async with name_server() as server:
        server.records["api.example", "A"] = ["192.0.2.1"]
        cluster = Cluster("c", (Authority("api.example", 80),))
        pools = Pools(Resolver(Dns(servers=(Endpoint("127.0.0.1", 9),))))
        with pytest.raises(NoSuchHost):
            await pools.candidates(cluster)
        pools.follow([cluster], Resolver(Dns(servers=(server.endpoint,))))
        assert await pools.candidates(cluster) == [A]


def test_a_gateway_is_followed_like_any_other() -> None:
    pools = Pools(Resolver())
    before = Cluster("c", (Authority("a.example", 80),), via=Via("socks", A))
    pool = pools.of(before)
    pools.follow([replace(before)])
    assert pools.of(before) is pool
