from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import ConfigError, Loaded, load
from proxy.core.snapshot import Admin, Bind

TOKEN = "0123456789abcdef"  # of the tests
LISTENERS = "listeners: {a: {bind: 127.0.0.1:1, mode: mixed}}\n"


def loaded(folder: Path, admin: str, flag: str | None = None) -> Loaded:
    path = folder / "c.yaml"
    path.write_text(LISTENERS + admin)
    return load(str(path), admin=flag)


def refused(folder: Path, admin: str, flag: str | None = None) -> str:
    with pytest.raises(ConfigError) as raised:
        loaded(folder, admin, flag)
    return str(raised.value)


def test_what_may_be_said(tmp_path: Path) -> None:
    assert loaded(tmp_path, "").snapshot.admin is None
    assert loaded(tmp_path, "admin: {bind: 127.0.0.1:7414}").snapshot.admin == Admin(
        (Bind("127.0.0.1", 7414),)
    )
    whole = f"admin: {{bind: ['*:7414', 'unix:/run/x.sock'], token: {TOKEN}, hosts: [Proxy.example.com]}}"
    admin = loaded(tmp_path, whole).snapshot.admin
    assert admin == Admin((Bind("*", 7414), Bind("/run/x.sock", 0)), TOKEN, ("proxy.example.com",))
    assert admin is not None
    assert admin.bind == Bind("*", 7414)


@pytest.mark.parametrize(
    "bind",
    ["'*:7414'", "0.0.0.0:7414", "192.0.2.1:7414", "'[2001:db8::1]:7414'", "[127.0.0.1:1234, '*:7414']"],
)
def test_who_is_open_to_others_has_a_token(tmp_path: Path, bind: str) -> None:
    said = refused(tmp_path, f"admin: {{bind: {bind}}}")
    assert "is open to others, and there is no token" in said
    assert loaded(tmp_path, f"admin: {{bind: {bind}, token: {TOKEN}}}").snapshot.admin is not None


@pytest.mark.parametrize("bind", ["127.0.0.1:7414", "'[::1]:7414'", "unix:/run/x.sock", "127.9.9.9:7414"])
def test_who_is_not_needs_none(tmp_path: Path, bind: str) -> None:
    assert loaded(tmp_path, f"admin: {{bind: {bind}}}").snapshot.admin is not None


@pytest.mark.parametrize(
    ("admin", "problem"),
    [
        ("admin: {bind: 127.0.0.1:7414, token: short}", "admin.token: it is too short; write 16 or more"),
        ("admin: {bind: 127.0.0.1:7414, token: 'with a space in it'}", "admin.token: it has characters"),
        ("admin: {bind: 127.0.0.1:7414, hosts: ['a b']}", "admin.hosts"),
        ("admin: {token: 0123456789abcdef}", "admin has no `bind`"),
        ("admin: 127.0.0.1:7414", "is not a mapping"),
        ("admin: {bind: 127.0.0.1:1}", "admin.bind: '127.0.0.1:1' is taken; listener 'a' binds it already"),
    ],
)
def test_what_may_not(tmp_path: Path, admin: str, problem: str) -> None:
    said = refused(tmp_path, admin)
    assert problem in said
    assert "short}" not in said
    assert "with a space" not in said


def test_the_flag_goes_before_the_file(tmp_path: Path) -> None:
    admin = loaded(
        tmp_path, f"admin: {{bind: 127.0.0.1:7414, token: {TOKEN}}}", "127.0.0.1:99"
    ).snapshot.admin
    assert admin == Admin((Bind("127.0.0.1", 99),), TOKEN)
    assert loaded(tmp_path, "", "unix:/run/y").snapshot.admin == Admin((Bind("/run/y", 0),))
    assert "is open to others" in refused(tmp_path, "", "*:99")
    assert "--admin" in refused(tmp_path, "", "nonsense")
