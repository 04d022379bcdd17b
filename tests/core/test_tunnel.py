"""Openings of tunnels: sealed and believed, in any pieces; tampered with and refused."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core import proxy_header, tunnel
from proxy.core.address import Authority, Endpoint
from proxy.core.outcomes import Reason
from proxy.core.reader import Malformed, Reading, TooLong
from proxy.core.tunnel import Rejected, Sealed, Ticket
from tests.core.reading import in_pieces

KEY = bytes(range(16))
NOW = 1_800_000_000.25
CLIENT, DIALLED = Endpoint("192.0.2.1", 56324), Endpoint("198.51.100.7", 1080)
TICKET = Ticket(bytes(range(100, 116)), NOW, Authority("api.example.com", 443), CLIENT, DIALLED)
EARLY = b"POST / HTTP/1.1\r\n\r\n"


def whole(early: bytes = EARLY, attempt: int = 1, *, final: bool = False, ticket: Ticket = TICKET) -> bytes:
    return tunnel.seal(KEY, ticket, attempt, early, final=final) + early


def read(data: bytes, step: int = 1 << 16) -> Sealed:
    return in_pieces(tunnel.opening, data, step).value


@pytest.mark.parametrize("step", [1, 5, 1000])
@pytest.mark.parametrize(
    "ticket",
    [
        TICKET,
        TICKET._replace(destination=Endpoint("203.0.113.9", 1)),
        TICKET._replace(destination=Endpoint("2001:db8::9", 65535), client=None, dialled=None),
        TICKET._replace(client=Endpoint("2001:db8::1", 1), dialled=Endpoint("2001:db8::2", 2)),
    ],
)
def test_there_and_back(ticket: Ticket, step: int) -> None:
    data = whole(ticket=ticket, attempt=7, final=True)
    parsed = in_pieces(tunnel.opening, data + b"behind", step)
    assert parsed.consumed == len(data)
    sealed = parsed.value
    assert sealed == Sealed(ticket, 7, True, data[: -len(EARLY)], EARLY)
    tunnel.verify([KEY], sealed, NOW)
    assert tunnel.size_of(ticket) == len(data) - len(EARLY)


def test_cut_off_anywhere_it_waits_for_more() -> None:
    data = whole()
    for size in range(len(data)):
        assert Reading(tunnel.opening, tunnel.LIMIT).feed(data[:size]) is None


def test_any_of_the_keys_will_do() -> None:
    sealed = read(whole())
    tunnel.verify([b"x" * 16, KEY], sealed, NOW)
    tunnel.verify([KEY, b"x" * 16], sealed, NOW)
    with pytest.raises(Rejected) as error:
        tunnel.verify([b"x" * 16], sealed, NOW)
    assert error.value.reason is Reason.WRONG_KEY


@pytest.mark.parametrize(("now", "right"), [(29.9, True), (-29.9, True), (30.1, False), (-30.1, False)])
def test_old_and_new_clocks(now: float, right: bool) -> None:
    sealed = read(whole())
    if right:
        tunnel.verify([KEY], sealed, NOW + now)
        return
    with pytest.raises(Rejected) as error:
        tunnel.verify([KEY], sealed, NOW + now)
    assert error.value.reason is Reason.OLD_CLOCK


def test_every_bit_counts() -> None:
    """Header and early data: whatever is changed is noticed, with the checksum mended."""
    data = whole()
    checksum = len(data) - len(EARLY) - tunnel._CRC_AT
    for at in (*range(checksum), *range(checksum + 4, len(data))):
        for bit in range(8):
            broken = bytearray(data)
            broken[at] ^= 1 << bit
            with pytest.raises((Malformed, Rejected, AssertionError)):
                tunnel.verify([KEY], read(mended(bytes(broken), len(data) - len(EARLY))), NOW)


def mended(data: bytes, size: int) -> bytes:
    """The same header with a checksum that is right."""
    at = size - tunnel._CRC_AT
    head = bytearray(data[:size])
    head[at : at + 4] = bytes(4)
    return proxy_header.summed(head, at) + data[size:]


def test_a_checksum_that_is_wrong_is_malformed() -> None:
    broken = bytearray(whole())
    broken[-1 - len(EARLY)] ^= 1
    with pytest.raises(Malformed):
        read(bytes(broken))


@pytest.mark.parametrize(
    "extensions",
    [
        (),
        ((2, b"api.example.com"), (5, bytes(16)), (3, b"")),
        ((2, b"api.example.com"), (5, bytes(15)), (3, b""), (0xE0, bytes(48))),
        ((2, b"api.example.com"), (5, bytes(16)), (3, b""), (0xE0, bytes(47))),
        ((2, b"api.example.com"), (5, bytes(16)), (3, b""), (0xE0, bytes(48))),
        ((2, b"0x7f.1"), (5, bytes(16)), (3, b""), (0xE0, b"\1\1\0\0\0\1" + bytes(42))),
        ((2, b""), (5, bytes(16)), (3, b""), (0xE0, b"\1\1\0\0\0\1" + bytes(42))),
        ((2, "ä.example".encode()), (5, bytes(16)), (3, b""), (0xE0, b"\1\1\0\0\0\1" + bytes(42))),
        ((2, b"fe80::1%lo"), (5, bytes(16)), (3, b""), (0xE0, b"\1\1\0\0\0\1" + bytes(42))),
        ((2, b"a.example"), (5, bytes(16)), (3, b""), (0xE0, b"\1\1\0\0\0\0" + bytes(42))),
        ((2, b"a.example"), (5, bytes(16)), (3, b""), (0xE0, b"\2\1\0\0\0\1" + bytes(42))),
        ((2, b"a.example"), (5, bytes(16)), (3, b""), (0xE0, b"\1\0\0\0\0\1" + bytes(42))),
        ((2, b"a.example"), (5, bytes(16)), (3, b""), (0xE0, b"\1\1\2\0\0\1" + bytes(42))),
        ((2, b"a.example"), (5, bytes(16)), (3, b""), (0xE0, b"\1\1\0\1\0\1" + bytes(42))),
        ((2, b"a.example"), (5, bytes(16)), (3, b""), (0xE0, b"\1\1\0\0\0\1\xff\xff" + bytes(40))),
        ((5, bytes(16)), (2, b"a.example"), (3, b""), (0xE0, b"\1\1\0\0\0\1" + bytes(42))),
    ],
)
def test_headers_that_open_nothing(extensions: tuple[tuple[int, bytes], ...]) -> None:
    with pytest.raises(Malformed):
        read(proxy_header.version2(CLIENT, DIALLED, extensions))


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"PROXY UNKNOWN\r\n", b"\x16\x03\x01", bytes(20)])
def test_other_protocols(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data)
    with pytest.raises(Malformed):
        read(proxy_header.SIGNATURE + b"\x20\x00\x00\x00")  # LOCAL


def test_what_cannot_be_sealed() -> None:
    for attempt, early in ((0, b""), (256, b""), (1, bytes(tunnel.MOST_COVERED + 1))):
        with pytest.raises(ValueError, match="no such opening"):
            tunnel.seal(KEY, TICKET, attempt, early, final=False)


def test_it_ends_with_a_bound() -> None:
    data = whole(bytes(tunnel.MOST_COVERED))
    assert len(data) < tunnel.LIMIT
    tunnel.verify([KEY], read(data), NOW)


def test_a_header_above_512_bytes_is_refused_as_soon_as_its_size_is_known() -> None:
    """Before anything is authenticated, the work is bounded in bytes."""
    named = TICKET._replace(destination=Authority("a" * 63 + ".b" * 95, 443), client=Endpoint("2001:db8::1", 1),
                            dialled=Endpoint("2001:db8::2", 2))  # fmt: skip
    tunnel.verify([KEY], read(whole(ticket=named)), NOW)
    large = whole()[:14] + (497).to_bytes(2, "big")
    with pytest.raises(TooLong):
        read(large)


def test_mutations_end_the_same_in_any_pieces() -> None:
    rng = random.Random(7)
    samples = [whole(), whole(b"", 2, final=True), whole(ticket=TICKET._replace(client=None))]
    for _ in range(200):
        data = bytearray(rng.choice(samples) + b"behind")
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        ends = {_ending(bytes(data), step) for step in (1, 17, 5000)}
        assert len(ends) == 1, data


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_noise_behind_a_signature(noise: bytes) -> None:
    for data in (noise, proxy_header.SIGNATURE + b"\x21\x11" + noise):
        assert _ending(data, 1) == _ending(data, 1000)


@settings(max_examples=50)
@given(st.binary(max_size=300), st.integers(1, 255), st.booleans(), st.sampled_from([CLIENT, None]))
def test_whatever_is_sealed_is_believed(
    early: bytes, attempt: int, final: bool, client: Endpoint | None
) -> None:
    ticket = TICKET._replace(client=client)
    data = whole(early, attempt, final=final, ticket=ticket)
    sealed = read(data, 3)
    tunnel.verify([KEY], sealed, NOW + 3)
    assert (sealed.early, sealed.attempt, sealed.final) == (early, attempt, final)


def _ending(data: bytes, step: int) -> str:
    reading = Reading(tunnel.opening, tunnel.LIMIT)
    try:
        for start in range(0, len(data), step):
            parsed = reading.feed(data[start : start + step])
            if parsed is not None:
                tunnel.verify([KEY], parsed.value, NOW)
                return "believed"
    except (TooLong, Malformed):
        return "malformed"
    except Rejected as rejected:
        return rejected.reason
    return "waiting"
