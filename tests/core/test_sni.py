from __future__ import annotations

from functools import partial

import pytest

from proxy.core.address import Authority, Endpoint
from proxy.core.outcomes import Reason
from proxy.core.reader import Malformed, NotMine, Reading
from proxy.core.sni import LIMIT, opening
from tests.core import hellos
from tests.core.reading import in_pieces

ALERT = b"\x15\x03\x03\x00\x02\x02\x70"
parser = partial(opening, port=443)


@pytest.mark.parametrize("step", [1, 11, 100_000])
@pytest.mark.parametrize("sizes", [(), (1, 2, 3), (40, 40)])
def test_the_name_and_the_whole_hello(sizes: tuple[int, ...], step: int) -> None:
    data = hellos.records(hellos.message(hellos.TYPICAL), *sizes)
    request, consumed = in_pieces(parser, data + b"\x17\x03\x03 early", step)
    assert (request.authority, request.sni) == (Authority("example.org", 443), "example.org")
    assert request.early == data[:consumed] == data


def test_a_large_hello_with_a_post_quantum_share() -> None:
    share = hellos.extension(51, b"k" * 1216)
    data = hellos.record(hellos.message(hellos.TYPICAL.replace(hellos.extension(51, b"k" * 38), share)))
    request, consumed = in_pieces(parser, data, 500)
    assert (request.sni, consumed) == ("example.org", len(data))


def test_without_a_name_there_is_no_authority() -> None:
    request, _ = in_pieces(parser, hellos.record(hellos.message(hellos.alpn(b"h2"))), 7)
    assert (request.authority, request.sni) == (None, None)
    assert request.refused(Reason.BAD_REQUEST, "") == ALERT


def test_under_ech_the_outer_name_counts() -> None:
    data = hellos.record(
        hellos.message(hellos.server_name(b"public.test") + hellos.extension(0xFE0D, b"x" * 99))
    )
    assert in_pieces(parser, data, 50).value.sni == "public.test"


def test_a_numeric_name_is_an_address() -> None:
    data = hellos.record(hellos.message(hellos.server_name(b"192.0.2.1")))
    assert in_pieces(parser, data, 50).value.authority == Endpoint("192.0.2.1", 443)


@pytest.mark.parametrize(
    "name", [b"secret.example.com.", b"SECRET.example.COM", b"Secret.Example.Com.", b"secret.example.com"]
)
def test_a_name_is_judged_by_rules_in_its_normal_form(name: bytes) -> None:
    request = in_pieces(parser, hellos.record(hellos.message(hellos.server_name(name))), 50).value
    assert request.sni == "secret.example.com"
    assert request.authority == Authority("secret.example.com", 443)


@pytest.mark.parametrize("name", [b"127.1", b"a..b", b"a.."])
def test_a_name_that_is_none(name: bytes) -> None:
    with pytest.raises(Malformed):
        in_pieces(parser, hellos.record(hellos.message(hellos.server_name(name))), 50)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1", b"\x05\x01\x00", b"SSH-2.0"])
def test_what_is_no_tls(data: bytes) -> None:
    with pytest.raises(NotMine):
        in_pieces(parser, data, 1)


def test_an_endless_hello_is_cut_off() -> None:
    reading = Reading(parser, LIMIT)
    assert reading.feed(hellos.record(b"\x01\x00\xff\x00")) is None
    with pytest.raises(Malformed):
        for _ in range(LIMIT):
            reading.feed(hellos.record(b"x") * 100)


@pytest.mark.parametrize(
    ("reason", "reply"), [(Reason.DENIED, ALERT), (Reason.NO_SUCH_HOST, ALERT), (Reason.REFUSED, b"")]
)
def test_what_the_client_is_told(reason: Reason, reply: bytes) -> None:
    request, _ = in_pieces(parser, hellos.record(hellos.message(hellos.TYPICAL)), 100)
    assert request.refused(reason, "why") == reply
