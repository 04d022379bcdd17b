"""How guessing is slowed down is told by tests/sessions/test_reception.py."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from proxy.core.address import Endpoint
from proxy.core.lockout import Lockout
from proxy.core.request import Credentials
from proxy.core.users import Secret, Users
from proxy.sessions import passwords
from proxy.sessions.passwords import wrong

USERS = Users({"alice": Secret(b"sesame"), "bob": Secret(b"x" * 32, b"saltsalt", (16, 8, 1))})


@pytest.mark.parametrize(
    ("user", "password", "said"),
    [("alice", "sesame", ""), ("alice", "Sesame", "wrong password"), ("bob", "x", "wrong password"),
     ("carol", "", "wrong password")],
)  # fmt: skip
@pytest.mark.parametrize("source", [Endpoint("192.0.2.1", 1), None])
async def test_what_is_wrong(source: Endpoint | None, user: str, password: str, said: str) -> None:
    assert await wrong(USERS, Credentials(user, password), source, Lockout(), 1.0) == said


async def test_where_there_are_no_users() -> None:
    assert await wrong(None, Credentials("alice", "sesame"), None, Lockout(), 1.0) == "wrong password"


class Counting(Users):
    """Users whose look-ups against a hash are counted, and held up."""

    def __init__(self, names: int = 1) -> None:
        super().__init__(
            {f"u{number}": Secret(b"x" * 32, b"saltsalt", (16, 8, 1)) for number in range(names)}
        )
        self.looks: list[str] = []
        self.gate = threading.Event()

    def check(self, credentials: Credentials) -> bool:
        self.gate.wait(30)
        self.looks.append(credentials.password)
        return credentials.password == "right"


def here(address: str) -> Endpoint:
    return Endpoint(address, 1)


async def test_nothing_is_hashed_twice() -> None:
    users, lockout = Counting(), Lockout(key=b"k")
    users.gate.set()
    for user in ("u0", "unknown"):
        for _ in range(10):
            assert (
                await wrong(users, Credentials(user, "old"), here("192.0.2.1"), lockout, 1.0)
                == "wrong password"
            )
    assert users.looks == ["old"] * 2, "an unknown user is looked at as often as a known one"
    users.looks.clear()
    users.gate.clear()
    async with trio.open_nursery() as nursery:
        for number in range(20):
            credentials = Credentials("u0", "right")
            nursery.start_soon(wrong, users, credentials, here(f"192.0.2.{number}"), lockout, 1.0)
        await trio.testing.wait_all_tasks_blocked(0.05)
        users.gate.set()
    assert users.looks == ["right"], "the same at the same time is one look"


async def test_a_first_login_comes_before_the_guesses_of_many_addresses() -> None:
    users, lockout = Counting(), Lockout(key=b"k")
    said: dict[str, str] = {}

    async def tries(address: str, password: str) -> None:
        said[password] = await wrong(users, Credentials("u0", password), here(address), lockout, 5.0)

    users.gate.set()
    for number in range(100):
        await tries(f"198.51.{number % 7}.{number}", f"first {number}")
    users.looks.clear()
    users.gate.clear()
    async with trio.open_nursery() as nursery:
        for number in range(300):
            nursery.start_soon(tries, f"198.51.{number % 7}.{number % 100}", f"guess {number}")
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.start_soon(tries, "203.0.113.9", "right")
        await trio.testing.wait_all_tasks_blocked(0.05)
        users.gate.set()
    assert said["right"] == ""
    assert "right" in users.looks[: passwords.AT_ONCE * 2 + 7], "behind one of each of seven networks at most"
    assert len(users.looks) <= passwords.AT_ONCE + passwords.MOST_WAITING + 1
    unseen = [why for why in said.values() if "not looked at" in why]
    assert len(unseen) >= 300 - len(users.looks)


async def test_a_place_in_the_queue_is_given_back() -> None:
    users, lockout = Counting(), Lockout(key=b"k")
    async with trio.open_nursery() as nursery:
        for number in range(10):
            credentials = Credentials("u0", f"{number}")
            nursery.start_soon(wrong, users, credentials, here(f"192.0.2.{number}"), lockout, 5.0)
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.cancel_scope.cancel()
        users.gate.set()
    assert not passwords._checks._running
    assert not passwords._checks._waiting
    assert not passwords._checks._looked
    assert await wrong(users, Credentials("u0", "right"), here("192.0.2.99"), lockout, 5.0) == ""
