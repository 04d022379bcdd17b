"""What is remembered while somebody sets the clock: standings, the state file, names, the openings of tunnels."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from bench.echo import echo_server
from bench.service import Line, Service, until
from bench.soak import faults
from proxy.core import tunnel
from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.core.fastopen import FIRST_SENTENCE, State
from proxy.core.standings import Remembered
from proxy.core.tunnel import Ticket
from proxy.lab.behaviours import answers
from proxy.lab.clients import ask
from proxy.lab.servers import Address
from proxy.lab.wan import Wan
from proxy.service import state
from tests.net.name_server import name_server
from tests.trust.wall import DAY, HOUR, Wall
from tests.wire.program import GET, Program, forward

SERVED = 12.0  # seconds that are left of the sentence


def quarantined(file: Path, endpoint: Address, until: float) -> None:
    """A state file that knows of one, made as the program makes it."""
    file.parent.chmod(0o700)
    entry = Remembered(
        *endpoint, State.QUARANTINED, until=until, sentence=FIRST_SENTENCE, cause=Evidence.SYN_DATA_LOST, rtt=0.1
    )  # fmt: skip
    assert state.save(file, state.Learned([entry])) is None


@pytest.mark.netns
@pytest.mark.wan(rtt=0.1)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("ahead", [DAY, -2 * HOUR])
def test_a_sentence_lasts_as_long_as_it_should(wan: Wan, tmp_path: Path, ahead: float, workers: int) -> None:
    wall, server, file = Wall(tmp_path), wan.serve(answers()), tmp_path / "state.json"
    began, quarantine = time.monotonic(), wall.now() + SERVED
    quarantined(file, server.address, quarantine)
    ends = {"a": forward(server)}
    with Program(wan.client, ends, env=wall.env, workers=workers, state=str(file)) as program:
        wall.set(ahead)
        number = 0
        while time.monotonic() < began + SERVED - 0.5:
            assert ask(program.address(), GET, fast_open=False).reply == b"pong"
            number += 1
            line = program.session(number)
            if time.monotonic() > began + SERVED:
                break  # the machine stood still in between: this may have been the probe
            assert (line["standing_before"], line["evidence"]) == ("quarantined", "plain"), line
            time.sleep(0.2)
        assert number
        time.sleep(max(0.0, began + SERVED + 0.5 - time.monotonic()))
        assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        assert program.session(number + 1)["evidence"] != "plain", "the sentence has ended in a probe"


def shown(service: Service, endpoint: Address) -> dict[str, Any]:
    where = service.wait_for("admin", 1)["bind"]
    with urllib.request.urlopen(f"http://{where}/api/v1/endpoints", timeout=10) as answer:
        found = json.loads(answer.read())["endpoints"]
    return next(one for one in found if one["endpoint"] == f"{endpoint[0]}:{endpoint[1]}")


def document(**settings: Any) -> Line:
    return {
        "listeners": {"a": {"bind": "127.0.0.1:0", "mode": "forward", "to": "c"}},
        "clusters": {"c": {"endpoints": ["127.0.0.1:9"], "warm_up": False}},
        "admin": {"bind": "127.0.0.1:0"},
        **settings,
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_a_state_file_from_the_future(tmp_path: Path, workers: int) -> None:
    """The clock goes back a day between two runs: a sentence is no longer than it was."""
    wall, file, endpoint = Wall(tmp_path), tmp_path / "state.json", ("192.0.2.1", 80)
    wall.set(DAY)
    quarantined(file, endpoint, wall.now() + FIRST_SENTENCE)
    settings = document(state=str(file), workers=workers)
    for ahead in (DAY, 0.0):
        wall.set(ahead)
        folder = tmp_path / str(ahead)
        folder.mkdir()
        with Service(folder, settings, env=wall.env) as service:
            found = shown(service, endpoint)
            assert found["standing"] == "quarantined"
            assert 0.0 < found["until"] - wall.now() <= FIRST_SENTENCE + 0.5
            assert not list(service.lines("state_not_read"))
            wall.set(-HOUR)
            assert 0.0 < shown(service, endpoint)["until"] - wall.now() <= FIRST_SENTENCE + 0.5
            wall.set(ahead)
    wall.set(2 * DAY)
    (tmp_path / "later").mkdir()
    with Service(tmp_path / "later", settings, env=wall.env) as service:
        assert shown(service, endpoint)["until"] <= wall.now() + 0.5, "the sentence is long over"


def says(to: Address, word: bytes = b"hello") -> bytes:
    """What an echo answers; nothing where the connection is ended."""
    with suppress(ConnectionError), socket.create_connection(to, timeout=10) as sock:
        sock.sendall(word)
        return sock.recv(100)
    return b""


async def test_names_are_good_for_as_long_as_they_should(tmp_path: Path) -> None:
    wall = Wall(tmp_path)
    with echo_server() as (_, port):
        async with name_server() as names:
            names.ttl = 7
            names.records["up.example", "A"] = ["127.0.0.1"]
            near = {"endpoints": [f"up.example:{port}"], "warm_up": False}
            settings = document(clusters={"c": near}, dns={"servers": [str(names.endpoint)]})
            service = await trio.to_thread.run_sync(lambda: Service(tmp_path, settings, env=wall.env))

            async def talk() -> int:
                to = service.listening()["a"]
                assert await trio.to_thread.run_sync(says, to) == b"hello"
                return names.asked["up.example", "A"]

            try:
                first = await talk()
                began = trio.current_time()
                for ahead in (DAY, -2 * HOUR):
                    wall.set(ahead)
                    assert await talk() == first, "nobody asks again"
                assert trio.current_time() < began + 6.0
                await trio.sleep_until(began + 7.5)
                assert await talk() > first, "an answer is no longer good because the clock went back"
                await trio.sleep(7.5)
                names.delays["A"] = names.delays["AAAA"] = 0.4
                async with trio.open_nursery() as clients:
                    clients.start_soon(talk)
                    await trio.sleep(0.2)
                    wall.set(DAY)  # while it waits for an answer
            finally:
                await trio.to_thread.run_sync(service.end)
            assert not faults(service)


def test_tunnels_believe_what_both_clocks_agree_on(tmp_path: Path) -> None:
    """docs/tunnel.md: within the window, and nothing that may have been heard before."""
    near_wall, far_wall = _wall(tmp_path / "near"), _wall(tmp_path / "far")
    key = secrets.token_hex(16)
    with echo_server() as server:
        far_side = document(
            listeners={"far": {"bind": "127.0.0.1:0", "mode": "tunnel", "key": key}},
            direct={"deny": ["metadata"]},
            clusters={},
            state=str(tmp_path / "far" / "state.json"),
        )
        with Service(tmp_path / "far", far_side, env=far_wall.env) as far:
            gate = far.listening()["far"]
            via = {"tunnel": f"{gate[0]}:{gate[1]}", "key": key}
            cluster = {"endpoints": [f"{server[0]}:{server[1]}"], "warm_up": False, "via": via}
            with Service(tmp_path / "near", document(clusters={"c": cluster}), env=near_wall.env) as near:
                for near_ahead, far_ahead, believed in (
                    (0.0, 0.0, True), (20.0, 0.0, True), (0.0, 20.0, True), (45.0, 0.0, False), (0.0, 45.0, False),
                    (HOUR, HOUR, True), (DAY, DAY, True), (-HOUR, -HOUR, False), (DAY + 300, DAY + 300, True),
                ):  # fmt: skip
                    near_wall.set(near_ahead)
                    far_wall.set(far_ahead)
                    before = ended(far)
                    assert says(near.listening()["a"]) == (b"hello" if believed else b""), (
                        near_ahead,
                        far_ahead,
                    )
                    until_ended(far, before + 1)
                    reasons = {line["reason"] for line in list(far.lines("session"))[before:]}
                    assert reasons <= ({"closed", "taken_over", "reset"} if believed else {"old_clock"})
                near_wall.set(0.0)
                far_wall.set(0.0)
                _check_replays(far, far_wall, server, key)
        assert not faults(near)
        assert not faults(far)


def ended(service: Service) -> int:
    return sum(1 for _ in service.lines("session"))


def until_ended(service: Service, number: int) -> None:
    until(lambda: ended(service) >= number)


def _wall(folder: Path) -> Wall:
    folder.mkdir(mode=0o700)
    return Wall(folder)


def _check_replays(far: Service, wall: Wall, server: Address, key: str) -> None:
    """What has come once does not come twice, whatever the clock does in between."""
    wall.set(DAY + 900)
    ticket = Ticket(os.urandom(16), wall.now(), Endpoint(*server), Endpoint("192.0.2.1", 1))
    opening = tunnel.seal(bytes.fromhex(key), ticket, 1, b"hello", final=False) + b"hello" + tunnel.COMMITTED
    before = ended(far)
    with socket.create_connection(far.listening()["far"], timeout=10) as sock:
        sock.sendall(opening)
        assert sock.recv(100).startswith(tunnel.ACCEPTED)
    until_ended(far, before + 1)
    for ahead in (DAY + 900, DAY + 920, DAY + 2000, DAY, 0.0, DAY + 900):
        wall.set(ahead)
        before = ended(far)
        assert says(far.listening()["far"], opening) == b""
        until_ended(far, before + 1)
        (line,) = list(far.lines("session"))[before:]
        assert line["reason"] in {"replayed", "old_clock"}
        assert line["up_bytes"] == 0
