from __future__ import annotations

import pytest

from proxy.config.addresses import BindAddress, Destination, EndpointAddress, FilePath, TfoKeys
from proxy.config.scalars import BadScalar, Scalar
from proxy.core.address import Authority, Endpoint
from proxy.core.snapshot import Bind

KEY = "00112233445566778899aabbccddeeff"
DASHED = "00112233-44556677-8899AABB-CCDDEEFF"


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("127.0.0.1:8080", Bind("127.0.0.1", 8080)),
        ("[::1]:8080", Bind("::1", 8080)),
        ("[0:0::1]:80", Bind("::1", 80)),
        ("[fe80::1%eth0]:80", Bind("fe80::1%eth0", 80)),
        ("*:8080", Bind("*", 8080)),
        ("127.0.0.1:0", Bind("127.0.0.1", 0)),
        ("unix:/run/x.sock", Bind("/run/x.sock", 0)),
        ("unix:@name", Bind("@name", 0)),
    ],
)
def test_where_to_listen(text: str, bind: Bind) -> None:
    address = BindAddress.read(text)
    assert address.value == bind
    assert BindAddress.read(str(address)) == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("8080", "'8080' is a port without a host; write host:port, like 127.0.0.1:8080"),
        ("", "has no port"),
        (":80", 'write "*:80" for every address, or 127.0.0.1:80'),
        ("localhost:80", "a listener binds to numbers, not names; write 127.0.0.1:80 or [::1]:80"),
        ("::1:80", "an IPv6 address needs brackets"),
        ("1.2.3.4:http", "the port must be a number from 0 to 65535"),
        ("1.2.3.4:65536", "the port must be a number from 0 to 65535"),
        ("1.2.3.4.5:80", "binds to numbers"),
        ("[1.2.3.4]:80", "is not an IPv6 address"),
        ("unix:run/x", "a unix socket is unix:/absolute/path or unix:@name"),
        ("unix:/" + "x" * 107, "may be 107 bytes"),
    ],
)
def test_where_one_cannot_listen(text: str, says: str) -> None:
    with pytest.raises(BadScalar) as caught:
        BindAddress.read(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("203.0.113.10:443", Endpoint("203.0.113.10", 443)),
        ("API.example.com.:443", Authority("api.example.com.", 443)),
        ("[2001:db8::1]:443", Endpoint("2001:db8::1", 443)),
        ("unix:/run/x", Endpoint("/run/x", 0)),
    ],
)
def test_what_to_dial(text: str, target: object) -> None:
    address = EndpointAddress.read(text)
    assert address.value == target
    assert EndpointAddress.read(str(address)) == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("api.example.com", "has no port; write host:port"),
        ("http://api.example.com:80", "is not an address; write host:port"),
        ("srv:", "is not a valid host name"),
        ("file:", "does not name a file"),
        ("1.2.3.4:0", "port 0 cannot be dialled"),
        ("127.1:80", "looks like an IPv4 address but is not one"),
        ("a b:80", "is not a valid host name"),
        ("*:80", "is not a valid host name"),
    ],
)
def test_what_cannot_be_dialled(text: str, says: str) -> None:
    with pytest.raises(BadScalar) as caught:
        EndpointAddress.read(text)
    assert says in str(caught.value)


def test_a_destination_with_a_colon_is_an_address() -> None:
    assert Destination.read("a:1").is_bare
    assert Destination.read("unix:/x").is_bare
    assert not Destination.read("api").is_bare
    with pytest.raises(BadScalar, match="it is empty"):
        Destination.read("")


def test_a_file_has_a_name() -> None:
    assert FilePath.read("/var/lib/x.json").value == "/var/lib/x.json"
    for text in ("", "/var/lib/", "a\0b"):
        with pytest.raises(BadScalar, match="does not name a file"):
            FilePath.read(text)


@pytest.mark.parametrize("text", [KEY, DASHED, KEY.upper(), f" {KEY}\n"])
def test_a_key(text: str) -> None:
    assert TfoKeys.read(text).value == (bytes.fromhex(KEY),)


def test_keys_are_parted_as_the_kernel_parts_them() -> None:
    both = TfoKeys.read(f"{DASHED},{'f' * 32}")
    assert both.value == (bytes.fromhex(KEY), b"\xff" * 16)
    assert TfoKeys.read(str(both)) == both


@pytest.mark.parametrize("text", ["", ",", KEY[:-1], f"{KEY}0", "g" * 32, f"{KEY},{KEY[:4]}"])
def test_what_is_no_key_is_not_repeated(text: str) -> None:
    with pytest.raises(BadScalar) as caught:
        TfoKeys.read(text)
    assert str(caught.value) == "a key is not 32 hexadecimal digits; `openssl rand -hex 16` makes one"


def test_a_key_is_not_shown() -> None:
    assert KEY not in repr(TfoKeys.read(KEY))


@pytest.mark.parametrize("cls", [BindAddress, EndpointAddress, Destination, FilePath, TfoKeys])
def test_each_says_what_it_is(cls: type[Scalar[object]]) -> None:
    assert cls.kind
    assert cls.json_schema["type"] == "string"
