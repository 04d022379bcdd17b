"""Fast opens that are not answered: paths that reset or drop what follows the handshake, and servers that do so.

Only bytes are an answer. Where the first bytes may be repeated no session fails; where they may not, one session does
at most, and those after it are dialled plainly.
"""

from __future__ import annotations

import errno
import itertools
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from proxy.lab.behaviours import answers, echoes, speaks_first
from proxy.lab.clients import ask
from proxy.lab.servers import Behaviour, Conversation, Server
from proxy.lab.wan import Wan
from tests.wire.program import GET, Line, Program, forward
from tests.wire.ways import enter

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.04)]

UNSAFE = b"\x80unknown"
LARGE = b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\nHost: example.com\r\n\r\n"
MIXED = GET + UNSAFE  # the first part may be repeated
SESSIONS = 3

BOXES: dict[str, tuple[str, dict[str, Any]]] = {
    "reset": ("reset-at-first-answer", {}),
    "reset, cookie only": ("reset-at-first-answer", {"option": True}),
    "fin": ("reset-at-first-answer", {"fin": True}),
    "silent to client": ("silent-to-client", {}),
    "silent to client, cookie only": ("silent-to-client", {"option": True}),
    "silent to server": ("silent-to-server", {}),
}


class Case(NamedTuple):
    """A client of one listener, a server of its own, and first bytes."""

    way: str
    known: bool  # the endpoint has answered a fast open before; else only its cookie is there
    said: bytes
    server: Server

    @property
    def most_failures(self) -> int:
        return 0 if self.said in {GET, LARGE, b""} else 1


def document(cases: dict[str, Case]) -> Line:
    """A listener, a cluster and a route for each."""
    modes = {"forward": "forward", "socks5": "socks"}
    listeners: Line = {name: {"bind": "127.0.0.1:0", "mode": modes[case.way]} for name, case in cases.items()}
    for name, case in cases.items():
        if case.way == "forward":
            listeners[name]["to"] = name
    return {
        "listeners": listeners,
        "clusters": {
            name: {"endpoints": ["{}:{}".format(*case.server.address)], "warm_up": False}
            for name, case in cases.items()
        },
        "routes": [
            {"match": {"listener": name}, "to": name} for name, case in cases.items() if case.way != "forward"
        ],
        "log": {"format": "json"},
    }


def exchange(program: Program, name: str, case: Case, said: bytes) -> bytes:
    """The answer's first bytes; nothing where the connection was ended without any, or too late."""
    with enter(case.way, program.address(name), case.server.address, timeout=3) as client:
        try:
            client.sendall(said)
            return client.recv(100)
        except OSError:
            return b""


@pytest.mark.parametrize("box", BOXES)
def test_no_session_fails_that_may_be_repeated_and_one_at_most_that_may_not(wan: Wan, box: str) -> None:
    cases: dict[str, Case] = {}
    for way, said, known in itertools.product(
        ("forward", "socks5"), (GET, LARGE, UNSAFE, MIXED, b""), (False, True)
    ):
        needed = len(said) if said in {LARGE, UNSAFE} else len(GET)
        server = wan.serve(answers(request=needed) if said else speaks_first(b"pong"))
        cases[f"c{len(cases)}"] = Case(way, known, said, server)
        assert ask(server.address, b"", expect=0).error == 0
    replies: dict[str, list[bytes]] = {}
    with Program(wan.client, document=document(cases)) as program:

        def warm(name: str) -> None:
            for _ in range(2 * cases[name].known):
                exchange(program, name, cases[name], {LARGE: LARGE, b"": b""}.get(cases[name].said, GET))

        def meet(name: str) -> None:
            replies[name] = [exchange(program, name, cases[name], cases[name].said) for _ in range(SESSIONS)]

        with ThreadPoolExecutor(len(cases)) as clients:
            list(clients.map(warm, cases))
            middlebox, params = BOXES[box]
            with wan.through(middlebox, **params):
                list(clients.map(meet, cases))
        total = len(cases) * (SESSIONS + 1)
        program.session(total)
        lines = program.events("session")
    failed = {name: SESSIONS - seen.count(b"pong") for name, seen in replies.items()}
    # A client that gets its FIN may begin the next session before the first is accounted for.
    late = box == "fin"
    wrong = {
        name: (case, replies[name])
        for name, case in cases.items()
        if failed[name] > case.most_failures + (late and case.most_failures > 0)
    }
    assert not wrong, wrong
    unanswered = [line for line in lines if "first_byte" not in line]
    assert not [line for line in unanswered if "saved" in line or line["standing_after"] == "confirmed"]


@pytest.mark.parametrize("fin", [False, True], ids=["resets", "closes"])
@pytest.mark.parametrize("said", [GET, UNSAFE, b""], ids=["get", "unsafe", "nothing"])
def test_a_server_that_ends_every_connection_is_not_asked_twice_for_long(
    wan: Wan, fin: bool, said: bytes
) -> None:
    """And its end reaches the client as what it was, as it does without Fast Open."""

    def ends(conversation: Conversation) -> None:
        if said:
            conversation.receive()
        if not fin:
            conversation.reset()

    server = wan.serve(ends)
    assert ask(server.address, b"", expect=0, timeout=0.5).error in {0, errno.ECONNRESET}
    asked = len(server.conversations)
    sessions = 12
    seen: dict[str, list[int]] = {"auto": [], "off": []}
    with Program(
        wan.client,
        {how: forward(server, server_first="no" if said else "yes", fast_open=how) for how in seen},
    ) as program:
        for how, errors in seen.items():
            for _ in range(sessions):
                errors.append(ask(program.address(how), said, fast_open=False, expect=1).error)
    assert seen["auto"] == seen["off"]
    assert len(server.conversations) - asked <= 2 * sessions + 3


def test_slow_is_not_silent(wan: Wan) -> None:
    """Servers that think for 50 ms to 1 s, in any order, on a clean path."""
    dice = random.Random(7413)

    def thinks(most: float) -> Behaviour:
        def behave(conversation: Conversation) -> None:
            answers(request=len(GET), delay=dice.uniform(0.05, most))(conversation)

        return behave

    servers = {
        f"s{number}": wan.serve(thinks(most)) for number, most in enumerate((0.1, 0.3, 0.6, 1.0, 1.0, 1.0))
    }
    with Program(wan.client, {name: forward(server) for name, server in servers.items()}) as program:

        def visit(name: str) -> None:
            for _ in range(6):
                assert ask(program.address(name), GET, fast_open=False).reply == b"pong"

        with ThreadPoolExecutor(2 * len(servers)) as clients:
            list(clients.map(visit, [*servers, *servers]))
        lines = [program.session(number) for number in range(1, 12 * len(servers) + 1)]
    wrong = [
        line for line in lines if line["evidence"] == "silent" or line["standing_after"] == "quarantined"
    ]
    assert not wrong, wrong


def test_a_late_answer_clears_the_path_after_it_was_taken_for_silent(wan: Wan) -> None:
    def behave(conversation: Conversation) -> None:
        first = server.conversations.index(conversation) == 1  # a fast open, and 0 asked for the cookie
        answers(request=len(GET), delay=2.2 if first else 0.0)(conversation)

    server = wan.serve(behave)
    with Program(wan.client, {"a": forward(server, hedge="100ms")}) as program:
        for number in (1, 2):
            assert ask(program.address(), GET, fast_open=False).reply == b"pong"
            line = program.session(number)
        assert (line["evidence"], line["standing_after"]) == ("silent", "data_doubted")
        time.sleep(1.5)
        assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        line = program.session(3)
        assert (line["standing_before"], line["evidence"]) == ("confirmed", "syn_data_acked")


@pytest.mark.parametrize("after", [0, 3])
def test_acknowledgements_that_do_not_reach_the_server_lead_to_plain_dials(wan: Wan, after: int) -> None:
    """Its answer fills the first window, and then it repeats what has come already."""
    size = 300_000
    server = wan.serve(answers(b"x" * size, request=len(GET)))
    with Program(wan.client, {"a": forward(server)}) as program:
        for number in (1, 2):
            assert len(ask(program.address(), GET, fast_open=False, expect=size).reply) == size
            program.session(number)
        with wan.through("silent-to-server", after=after):
            assert not ask(program.address(), GET, fast_open=False, expect=size, timeout=5).reply
            for _ in range(2):
                answered = ask(program.address(), GET, fast_open=False, expect=size)
                assert len(answered.reply) == size
            program.wait_for("session", evidence="plain", standing_after="quarantined")


def test_a_lossy_path_or_a_client_that_does_not_read_is_not_taken_for_one(wan: Wan) -> None:
    size = 2_000_000
    server = wan.serve(answers(b"x" * size, request=len(GET)))
    echo = wan.serve(echoes())
    with Program(wan.client, {"a": forward(server), "b": forward(echo)}) as program:
        for _ in range(2):
            ask(program.address(), GET, fast_open=False)
            ask(program.address("b"), GET, fast_open=False)
        with socket.create_connection(program.address()) as client, wan.through("random-loss", rate=0.05):
            client.sendall(GET)
            deadline = time.monotonic() + 4.5
            with socket.create_connection(program.address("b")) as talker:
                while time.monotonic() < deadline:
                    talker.sendall(b"hello")
                    assert talker.recv(100)
                    time.sleep(0.1)
            read = 0
            while read < size:
                read += len(client.recv(1_000_000))
        for name in ("a", "b"):
            line = program.session(3, listener=name)
            assert line["standing_after"] not in {"quarantined", "data_doubted"}, line
