from __future__ import annotations

import base64

import pytest

from proxy.config.scalars import BadScalar
from proxy.config.tunnel_keys import TunnelAddress, TunnelKeys
from proxy.core.address import Authority, Endpoint

KEY = bytes(range(32))


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (KEY.hex(), (KEY,)),
        (base64.b64encode(KEY).decode(), (KEY,)),
        (base64.urlsafe_b64encode(bytes(range(220, 252))).decode().rstrip("="), (bytes(range(220, 252)),)),
        (f"{KEY.hex()},\n {KEY[:16].hex()}\n", (KEY, KEY[:16])),
    ],
)
def test_keys(text: str, keys: tuple[bytes, ...]) -> None:
    read = TunnelKeys.read(text)
    assert read.value == keys
    assert TunnelKeys.read(str(read)) == read
    assert KEY.hex() not in repr(read)


@pytest.mark.parametrize("text", ["", ",", "00" * 15, "00" * 32, "secret", "a password, of words", "é" * 32])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(BadScalar) as error:
        TunnelKeys.read(text)
    assert not text.strip(",") or text not in str(error.value)


def test_addresses() -> None:
    assert TunnelAddress.read("gw.example.com:7413").value == Authority("gw.example.com", 7413)
    assert TunnelAddress.read("[2001:db8::1]:7413").value == Endpoint("2001:db8::1", 7413)
    for text in ("gw", "unix:/run/x", "gw:0"):
        with pytest.raises(BadScalar):
            TunnelAddress.read(text)
