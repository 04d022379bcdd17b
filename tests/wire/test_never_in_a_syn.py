"""Under `replay: safe`: what may not be done twice is never in a SYN. A thousand first flights of each kind."""

from __future__ import annotations

import random
import socket
import string
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from proxy.lab.behaviours import answers
from proxy.lab.clients import ask
from proxy.lab.wan import Wan
from tests.wire.program import GET, Program, forward

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.004), pytest.mark.slow]

FLIGHTS = 1000
AT_ONCE = 8


def word(dice: random.Random, least: int = 1, most: int = 12) -> str:
    return "".join(dice.choices(string.ascii_letters + string.digits, k=dice.randint(least, most)))


def unsafe_http(dice: random.Random) -> bytes:
    """A request that changes something, with and without a body, whole and cut off anywhere."""
    method = dice.choice(["POST", "POST", "POST", "PUT", "DELETE", "PATCH", "CONNECT", "post", "LOCK"])
    body = dice.randbytes(dice.randint(0, 200))
    headers = [f"X-{word(dice)}: {word(dice)}" for _ in range(dice.randint(0, 6))]
    headers.append(dice.choice([f"Content-Length: {len(body)}", "Transfer-Encoding: chunked", "Accept: */*"]))
    dice.shuffle(headers)
    head = "\r\n".join([f"{method} /{word(dice)} HTTP/1.{dice.randint(0, 1)}", "Host: a.example", *headers])
    flight = head.encode() + b"\r\n\r\n" + body
    return flight if dice.random() < 0.7 else flight[: dice.randint(1, len(flight))]


def redis_write(dice: random.Random) -> bytes:
    """INCR and its like, as arrays and inline, alone and with more behind it."""
    name = dice.choice(["INCR", "INCR", "incr", "Incr", "INCRBY", "SET", "DEL", "LPUSH", "EVAL", "FLUSHALL"])
    words = [name, *(word(dice) for _ in range(dice.randint(1, 3)))]
    if dice.random() < 0.3:
        flight = " ".join(words).encode() + b"\r\n"
    else:
        parts = [f"${len(text)}\r\n{text}\r\n" for text in words]
        flight = f"*{len(words)}\r\n{''.join(parts)}".encode()
    return flight + (b"*1\r\n$4\r\nPING\r\n" if dice.random() < 0.3 else b"")


def unknown(dice: random.Random) -> bytes:
    """Bytes of no protocol we know: binary with a magic of its own, or lines of words."""
    if dice.random() < 0.5:
        return bytes([dice.randint(0xC0, 0xFE)]) + dice.randbytes(dice.randint(1, 600))
    return f"X{word(dice, 5, 9)} {word(dice)} {word(dice)}\r\n".encode()


@pytest.mark.parametrize("flight", [unsafe_http, redis_write, unknown])
def test_never_in_a_syn(wan: Wan, flight: Callable[[random.Random], bytes]) -> None:
    server = wan.serve(answers())
    with Program(wan.client, {"a": forward(server)}) as program:
        for _ in range(2):
            ask(program.address(), GET, fast_open=False)
        assert program.session(2)["evidence"] == "syn_data_acked", "what is safe does ride in a SYN here"
        wan.forget()

        def sends(seed: int) -> bool:
            data = flight(random.Random(seed))
            with socket.create_connection(program.address(), timeout=10) as client:
                client.sendall(data)
                return client.recv(100) == b"pong"

        with ThreadPoolExecutor(AT_ONCE) as pool:
            assert all(pool.map(sends, range(FLIGHTS)))
        program.session(FLIGHTS + 2)
    syns = wan.capture().syns(dst=server.address)
    assert len(syns) >= FLIGHTS
    assert not [syn for syn in syns if syn.payload]
    server.wait(FLIGHTS + 2, timeout=30)
    expected = [GET, GET, *(flight(random.Random(seed)) for seed in range(FLIGHTS))]
    # Where the machine stood still for a moment there was a second dial, which said nothing.
    arrived = [said for said in server.received if said]
    assert sorted(arrived) == sorted(expected), "each arrived once, and whole"
