from __future__ import annotations

import random
from collections import Counter

import pytest

from proxy.core.address import Authority, Endpoint
from proxy.core.balance import Balancer
from proxy.core.clusters import Balance, Cluster, Connect, Ejection
from proxy.core.members import Members, members_of


def members(count: int, *weights: int) -> Members:
    given = weights or (1,) * count
    return members_of((Endpoint(f"10.{n // 256}.{n % 256}.1", 80), weight) for n, weight in enumerate(given))


def balancer(balance: Balance, retries: int = 2, most: int = 50) -> Balancer:
    cluster = Cluster(
        "c", (), balance=balance, connect=Connect(retries=retries), eject=Ejection(1, most=most)
    )
    return Balancer(cluster, random.Random(7).random)


def firsts(of: Balancer, among: Members, times: int, keys: int = 1) -> Counter[int]:
    return Counter(among.at[of.pick(among, f"client {n % keys}", 0.0)[0]] for n in range(times))


@pytest.mark.parametrize("balance", Balance)
@pytest.mark.parametrize("count", [1, 2, 3, 200])
def test_as_many_as_may_be_tried_all_different(balance: Balance, count: int) -> None:
    of, among = balancer(balance), members(count)
    for n in range(50):
        picked = of.pick(among, f"{n}", 0.0)
        assert len(picked) == len(set(picked)) == min(count, 3)


@pytest.mark.parametrize("balance", Balance)
def test_nobody_to_choose_from(balance: Balance) -> None:
    assert balancer(balance).pick(members_of([]), "", 0.0) == []


@pytest.mark.parametrize("balance", Balance)
def test_those_that_are_out_come_last_and_only_where_needed(balance: Balance) -> None:
    of, among = balancer(balance, retries=2), members(4)
    of.pick(among, "", 0.0)
    for endpoint in among.endpoints[:2]:
        assert of.availability.failed(endpoint, 4, 0.0)
    for n in range(30):
        picked = of.pick(among, f"{n}", 1.0)
        assert set(picked[:2]) == set(among.endpoints[2:])
        assert picked[2] in among.endpoints[:2]


def test_round_robin_goes_round() -> None:
    of, among = balancer(Balance.ROUND_ROBIN), members(3)
    turns = [among.at[of.pick(among, "", 0.0)[0]] for _ in range(6)]
    assert turns[:3] == turns[3:]
    assert sorted(turns[:3]) == [0, 1, 2]
    assert [among.at[e] for e in of.pick(among, "", 0.0)] == [turns[0], turns[1], turns[2]]


def test_round_robin_spreads_weights_evenly() -> None:
    of, among = balancer(Balance.ROUND_ROBIN), members(0, 4, 2)
    turns = [among.at[of.pick(among, "", 0.0)[0]] for _ in range(12)]
    assert Counter(turns[:6]) == {0: 4, 1: 2}
    longest = max(len(run) for run in "".join(map(str, turns)).replace("1", " ").split())
    assert longest <= 2


def test_huge_weights_are_brought_down() -> None:
    of, among = balancer(Balance.ROUND_ROBIN), members(0, 1_000_000, 500_000)
    counts = firsts(of, among, 3000)
    assert abs(counts[0] - 2000) < 20


def test_least_connections() -> None:
    of, among = balancer(Balance.LEAST_CONNECTIONS), members(3)
    a, b, c = among.endpoints
    of.pick(among, "", 0.0)
    for endpoint in (a, a, b):
        of.began(endpoint)
    assert of.pick(among, "", 0.0) == [c, b, a]
    of.began(c)
    of.began(c)
    of.ended(a)
    of.ended(a)
    assert of.pick(among, "", 0.0) == [a, b, c]
    assert of.sessions == {b: 1, c: 2}


def test_least_connections_takes_turns_among_equals_and_minds_weights() -> None:
    of, among = balancer(Balance.LEAST_CONNECTIONS), members(4)
    assert firsts(of, among, 8) == {0: 2, 1: 2, 2: 2, 3: 2}
    heavy, weighted = balancer(Balance.LEAST_CONNECTIONS), members(0, 3, 1)
    for _ in range(40):
        heavy.began(heavy.pick(weighted, "", 0.0)[0])
    assert [heavy.sessions[endpoint] for endpoint in weighted.endpoints] == [30, 10]


def test_least_connections_keeps_its_books_small() -> None:
    of, among = balancer(Balance.LEAST_CONNECTIONS), members(5)
    for _ in range(2000):
        endpoint = of.pick(among, "", 0.0)[0]
        of.began(endpoint)
        of.ended(endpoint)
    assert len(of._strategy._heap) < 200  # type: ignore[attr-defined]


def test_two_choices_avoid_the_loaded_one() -> None:
    of, among = balancer(Balance.RANDOM), members(10)
    of.pick(among, "", 0.0)
    for _ in range(100):
        of.began(among.endpoints[3])
    counts = firsts(of, among, 1000)
    assert counts[3] < 50  # only where it was drawn twice
    assert all(50 < counts[n] < 200 for n in range(10) if n != 3)


def test_random_minds_weights() -> None:
    counts = firsts(balancer(Balance.RANDOM), members(0, 8, 1, 1), 2000)
    assert counts[0] > 1300


def test_source_hash_is_stable_when_members_come_and_go() -> None:
    of, among = balancer(Balance.SOURCE_HASH), members(20)
    clients = [f"192.0.2.{n}" for n in range(250)]
    before = {client: of.pick(among, client, 0.0)[0] for client in clients}
    assert before == {client: of.pick(among, client, 0.0)[0] for client in clients}
    gone = among.endpoints[7]
    fewer = members_of((endpoint, 1) for endpoint in among.endpoints if endpoint != gone)
    after = {client: of.pick(fewer, client, 0.0)[0] for client in clients}
    assert all(after[client] == before[client] for client in clients if before[client] != gone)
    assert len(set(before.values())) == 20
    another = balancer(Balance.SOURCE_HASH)
    assert before == {client: another.pick(among, client, 0.0)[0] for client in clients}


def test_source_hash_minds_weights() -> None:
    counts = firsts(balancer(Balance.SOURCE_HASH), members(0, 4, 1), 2000, keys=2000)
    assert 1300 < counts[0] < 1850


def test_first_is_first() -> None:
    of, among = balancer(Balance.FIRST), members(5)
    assert of.pick(among, "", 0.0) == list(among.endpoints[:3])


def test_sessions_outlive_a_change_of_members() -> None:
    of, among = balancer(Balance.LEAST_CONNECTIONS), members(2)
    of.pick(among, "", 0.0)
    of.began(among.endpoints[0])
    again = members_of((endpoint, 1) for endpoint in among.endpoints)
    assert of.pick(again, "", 0.0)[0] == among.endpoints[1]
    of.ended(among.endpoints[0])
    assert not of.sessions


@pytest.mark.parametrize("balance", Balance)
def test_hundreds_are_not_walked_for_each_session(balance: Balance) -> None:
    """Looked at, counted: time is measured by the benchmarks."""
    of, among = balancer(balance), members(300)
    of.pick(among, "", 0.0)
    seen = 0
    order = of._strategy.order

    class Counting:
        loaded = of._strategy.loaded

        def order(self, key: str):  # type: ignore[no-untyped-def]
            nonlocal seen
            for number in order(key):
                seen += 1
                yield number

    of._strategy = Counting()
    for n in range(100):
        endpoint = of.pick(among, f"{n}", 0.0)[0]
        of.began(endpoint)
    assert seen < 1000


def dual(sixes: int, fours: int) -> Members:
    hosts = [f"2001:db8::{n}" for n in range(sixes)] + [f"192.0.2.{n}" for n in range(fours)]
    return members_of((Endpoint(host, 80), 1) for host in hosts)


@pytest.mark.parametrize("balance", Balance)
@pytest.mark.parametrize(("sixes", "fours"), [(3, 1), (8, 1), (1, 8), (4, 4)])
def test_no_address_family_is_cut_off(balance: Balance, sixes: int, fours: int) -> None:
    of, among = balancer(balance), dual(sixes, fours)
    for n in range(20):
        picked = of.pick(among, f"{n}", 0.0)
        assert {endpoint.is_ipv6 for endpoint in picked} == {True, False}
        assert len(picked) == len(set(picked)) <= 4
        if balance not in {Balance.FIRST, Balance.SOURCE_HASH}:
            assert picked[0].is_ipv6 is not picked[1].is_ipv6


def test_all_addresses_of_one_name_are_tried() -> None:
    cluster = Cluster("c", (Authority("a.example", 80),), connect=Connect(retries=0))
    of, among = Balancer(cluster, random.Random(7).random), dual(3, 3)
    assert len(of.pick(among, "", 0.0)) == 6
    of.availability.failed(among.endpoints[3], 6, 0.0)
    for _ in range(2):
        of.availability.failed(among.endpoints[3], 6, 0.0)
    picked = of.pick(among, "", 0.0)
    assert picked[-1] == among.endpoints[3], "one that is ejected comes last"
