from __future__ import annotations

import base64
import hashlib

import pytest

from proxy.core.request import Credentials
from proxy.core.users import BadSecret, Users, read_secret


def phc(password: str, ln: int = 4, salt: bytes = b"saltsalt", size: int = 32) -> str:
    key = hashlib.scrypt(password.encode(), salt=salt, n=1 << ln, r=8, p=1, dklen=size)
    parts = (base64.b64encode(part).decode().rstrip("=") for part in (salt, key))
    return f"$scrypt$ln={ln},r=8,p=1${'$'.join(parts)}"


@pytest.mark.parametrize("written", ["sesame", phc("sesame")])
def test_who_is_let_in(written: str) -> None:
    users = Users({"alice": read_secret(written), "bob": read_secret("x")})
    good, bad = Credentials("alice", "sesame"), Credentials("alice", "Sesame")
    assert users.slow is written.startswith("$")
    assert users.known(good) is not users.slow
    assert users.check(good)
    assert users.known(good), "once it was right it is not worked out again"
    for other in (
        bad,
        Credentials("alice", ""),
        Credentials("carol", "sesame"),
        Credentials("bob", "sesame"),
    ):
        assert not users.known(other)
        assert not users.check(other)


def test_users_compare_by_what_they_hold() -> None:
    one, same, other = (Users({"a": read_secret(text)}) for text in ("x", "x", "y"))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "x"


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("$scrypt$", "begins like"),
        ("$scrypt$ln=14,r=8$c2FsdHNhbHQ$aGFzaA", "begins like"),
        (phc("x").replace("ln=4", "ln=30"), "128 MiB"),
        (phc("x").replace("ln=4", "ln=0"), "128 MiB"),
        (phc("x", salt=b"salt"), "salt"),
        (phc("x", size=8), "salt"),
        (phc("x").replace("c2FsdHNhbHQ", "c2FsdHNhbHQ0a"), "base64"),
    ],
)
def test_a_hash_that_is_none(written: str, says: str) -> None:
    with pytest.raises(BadSecret, match=says):
        read_secret(written)


def test_a_password_that_is_no_text_is_wrong() -> None:
    assert not Users({"a": read_secret("x")}).check(Credentials("a", "\udcff"))
