from __future__ import annotations

import pytest

from proxy.admin import doors
from proxy.admin.exchange import BadRequest, Request
from proxy.core.snapshot import Admin, Bind
from tests.admin.house import TOKEN, SmallHouse, admin_of, ask, bearer

HERE = Admin((Bind("127.0.0.1", 7414),), TOKEN, ("proxy.example.com",))


def asked(peer: str = "127.0.0.1", **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in {"host": "127.0.0.1:7414", **headers}.items()}
    return Request("POST", "/", "", named, b"", peer)


def refusal(admin: Admin, request: Request, *, order: bool = False, private: bool = True) -> int | None:
    try:
        doors.check(admin, request, order=order, private=private)
    except BadRequest as error:
        return error.status
    return None


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:7414", "127.0.0.1", "[::1]:7414", "[::1]", "localhost", "LOCALHOST:7414", "192.0.2.1:80",
     "proxy.example.com", "PROXY.example.com.:7414"],
)  # fmt: skip
def test_hosts_that_are_ours(host: str) -> None:
    assert refusal(HERE, asked(host=host)) is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:7414", "127.0.0.1.evil.example", "localhost.evil.example", "", ":7414", "[", "[]",
     "127.0.0.1:7414:1", "127.0.0.1:99999", "[::1", "a b", "localhost\x00", "2130706433", "0x7f.1", "[::1]x"],
)  # fmt: skip
def test_a_page_that_dns_led_here_is_turned_away(host: str) -> None:
    assert refusal(HERE, asked(host=host)) == 421
    assert refusal(HERE, asked(host=host), private=False) == 421


def test_orders_need_the_token() -> None:
    assert refusal(HERE, asked(), order=True) == 401
    assert refusal(HERE, asked(authorization=f"Bearer {TOKEN}"), order=True) is None
    assert refusal(HERE, asked(authorization=f"bearer  {TOKEN} "), order=True) is None
    for wrong in (
        "",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer ",
        "Bearer é\xff",
    ):
        assert refusal(HERE, asked(authorization=wrong), order=True) == 401


def test_without_a_token_nobody_gives_orders_over_tcp() -> None:
    open_to_all = Admin(HERE.binds)
    assert refusal(open_to_all, asked(), order=True) == 403
    assert refusal(open_to_all, asked(authorization="Bearer "), order=True) == 403
    assert refusal(open_to_all, asked(peer=""), order=True) is None


def test_who_is_elsewhere_sees_nothing_private() -> None:
    for peer in ("192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "10.0.0.1"):
        assert refusal(HERE, asked(peer=peer)) == 401
        assert refusal(HERE, asked(peer=peer), private=False) is None
        assert refusal(HERE, asked(peer=peer, authorization=f"Bearer {TOKEN}")) is None
        assert refusal(Admin(HERE.binds), asked(peer=peer, authorization="Bearer ")) == 401
    for peer in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
        assert refusal(HERE, asked(peer=peer)) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:7415"},
        {"origin": "http://[::1"},
    ],
)
def test_pages_of_other_sites_cannot_ask(headers: dict[str, str]) -> None:
    with_token = {"authorization": f"Bearer {TOKEN}", **headers}
    assert refusal(HERE, asked(**with_token), order=True) == 403
    assert refusal(HERE, asked(**headers)) == 403


def test_our_own_page_can() -> None:
    headers = {"origin": "http://127.0.0.1:7414", "sec_fetch_site": "same-origin"}
    assert refusal(HERE, asked(**headers, authorization=f"Bearer {TOKEN}"), order=True) is None


async def test_on_the_wire() -> None:
    house = SmallHouse()
    async with admin_of(house) as where:
        for headers, status in [
            ({}, 401),
            (bearer("x" * 30), 401),
            (bearer() | {"Origin": "https://evil.example"}, 403),
            (bearer() | {"Host": "evil.example"}, 421),
        ]:
            reply = await ask(where, "/api/v1/drain", "POST", headers)
            assert reply.status == status
            assert TOKEN.encode() not in reply.body
        assert house.state == "ready"
        assert (await ask(where, "/api/v1/drain", "POST", bearer())).status == 200
        assert (await ask(where, "/metrics", headers={"Host": "evil.example"})).status == 421
