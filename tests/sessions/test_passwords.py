"""How guessing is slowed down is told by tests/sessions/test_reception.py."""

from __future__ import annotations

import pytest

from proxy.core.address import Endpoint
from proxy.core.lockout import Lockout
from proxy.core.request import Credentials
from proxy.core.users import Secret, Users
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
