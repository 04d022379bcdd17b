"""The warm-up of many endpoints, told of wherever somebody may be waiting for it."""

from __future__ import annotations

import http.client
import json
import os
import pty
import re
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from proxy.lab.behaviours import answers, answers_each
from proxy.lab.namespaces import python_environment
from proxy.lab.wan import Wan
from tests.wire.program import Program, until

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.05)]

GOOD, DEAF, REFUSED, SILENT = 150, 40, 20, 16
ALL = GOOD + DEAF + REFUSED + SILENT
ENDED = {"fetched": GOOD, "held": 0, "no_fast_open": DEAF, "dropped": 0, "unreachable": REFUSED + SILENT}


@pytest.fixture(scope="module", autouse=True)
def anywhere(wan: Wan) -> None:
    """Port 80 of every address of the lab takes SYN data, port 81 does not."""
    wan.serve(answers(), host="0.0.0.0")
    wan.serve(answers(), host="0.0.0.0", port=81, fast_open=None)


def many(wan: Wan) -> list[str]:
    """Endpoints of every kind, mixed: with Fast Open, without, closed ports, and addresses where nobody is."""
    good = [f"{wan.fresh_address()}:80" for _ in range(GOOD)]
    deaf = [f"{wan.fresh_address()}:81" for _ in range(DEAF)]
    refused = [f"{wan.fresh_address()}:82" for _ in range(REFUSED)]
    silent = [f"{wan.unrouted_address()}:80" for _ in range(SILENT)]
    return sorted(good + deaf + refused + silent, key=lambda text: text[::-1])


def configuration(endpoints: list[str], **settings: object) -> dict[str, Any]:
    cluster = {"endpoints": endpoints, "connect": {"timeout": "1200ms"}}
    listener = {"bind": "127.0.0.1:0", "mode": "forward", "to": "c"}
    return {"listeners": {"a": listener}, "clusters": {"c": cluster}, **settings}


def asked(path: Path, what: str) -> bytes:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    connection.request("GET", what)
    body = connection.getresponse().read()
    connection.close()
    return body


def told(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asked(path, "/api/v1/status"))["warm_up"]
    return found


def told_in_between(path: Path) -> dict[str, Any]:
    """When all endpoints are known, and some have been asked."""
    found: list[dict[str, Any]] = []

    def some() -> bool:
        found.append(told(path) or {"endpoints": 0})
        return bool(found[-1]["endpoints"] == ALL and found[-1]["waiting"] < ALL)

    until(some, 30)
    return found[-1]


def scraped(path: Path) -> dict[str, float]:
    families = parse_text(asked(path, "/metrics").decode())
    return {
        sample.labels["outcome"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "tfoproxy_warm_up_endpoints"
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_everybody_is_told_the_same(wan: Wan, tmp_path: Path, workers: int) -> None:
    admin = tmp_path / "admin"
    endpoints = many(wan)
    document = configuration(endpoints, workers=workers, admin={"bind": f"unix:{admin}"})
    with Program(wan.client, document=document) as program:
        half = told_in_between(admin)
        assert not half["is_over"]
        assert not program.events("warmed_up")
        command = [sys.executable, "-m", "proxy", "status", "--admin", f"unix:{admin}"]
        assert re.search(
            r"warm-up   \d+ of \d+ endpoints", wan.client.run(command, env=python_environment()).stdout
        )
        until(lambda: told(admin)["is_over"], 60)
        line = program.wait_for("warmed_up")
        after = told(admin)
        assert {name: line[name] for name in ENDED} == {name: after[name] for name in ENDED} == ENDED
        assert (line["endpoints"], after["waiting"], half["endpoints"]) == (ALL, 0, ALL)
        assert line["seconds"] == pytest.approx(after["seconds"], abs=0.001)
        assert scraped(admin) == {**ENDED, "waiting": 0}
        good = [one for one in endpoints if one.endswith(":80") and not one.startswith("10.77.3.")]
        asked_for = wan.capture()
        assert {len(asked_for.syns(dst=one.rpartition(":")[0])) for one in good} == {1}, "by one worker only"
        _and_those_that_a_reload_brings(wan, program, admin, endpoints, document)


def _and_those_that_a_reload_brings(
    wan: Wan, program: Program, admin: Path, endpoints: list[str], document: dict[str, Any]
) -> None:
    fresh = [f"{wan.fresh_address()}:80" for _ in range(10)]
    document["clusters"]["c"]["endpoints"] = [*endpoints, *fresh]
    program.configure(document=document)
    program.signal(signal.SIGHUP)
    line = program.wait_for("warmed_up", 2, 60)
    assert line["endpoints"] == ALL + 10
    assert (line["fetched"], line["held"], line["no_fast_open"]) == (10, GOOD, DEAF)
    assert told(admin)["fetched"] == 10


class Screen:
    """What somebody at a terminal sees: finished lines, and what the last line has shown."""

    def __init__(self) -> None:
        self.finished: list[str] = []
        self.shown: list[str] = []
        self._line, self._at = "", 0
        self._raw = b""

    def take(self, data: bytes) -> None:
        self._raw += data
        text = re.sub(r"\x1b\[[0-9;]*m", "", self._raw.decode(errors="ignore"))
        if "\x1b" in text and not re.search(r"\x1b\[K[^\x1b]*$", text):
            return  # an escape that is not all there
        self._raw = b""
        for part in re.findall(r"\x1b\[K|\r|\n|[^\x1b\r\n]+", text):
            self._draw(part)

    def _draw(self, part: str) -> None:
        match part:
            case "\x1b[K":
                self._line = self._line[: self._at]
            case "\r":
                self._at = 0
            case "\n":
                self.finished.append(self._line)
                self._line, self._at = "", 0
            case _:
                self._line = self._line[: self._at] + part + self._line[self._at + len(part) :]
                self._at += len(part)
                self.shown.append(self._line)


class Terminal:
    """The program in the foreground of a terminal, its finished lines on `screen`."""

    def __init__(self, wan: Wan, file: Path) -> None:
        self.screen = Screen()
        self._user, terminal = pty.openpty()
        command = [sys.executable, "-m", "proxy", "run", str(file)]
        self.process = wan.client.popen(
            command, env={**python_environment(), "COLUMNS": "100"}, stderr=terminal
        )
        os.close(terminal)
        os.set_blocking(self._user, False)

    def look(self) -> Screen:
        with suppress(BlockingIOError, OSError):  # nothing new; nobody there any more
            while data := os.read(self._user, 65536):
                self.screen.take(data)
        return self.screen

    def has(self, words: str) -> bool:
        return any(words in line for line in self.look().finished)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.look()
        os.close(self._user)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_line_on_the_terminal_that_tears_no_other(wan: Wan, tmp_path: Path, workers: int) -> None:
    server = wan.serve(answers_each(request=4), port=83)
    document = configuration(many(wan), workers=workers)
    port = _free_port(wan)
    document["listeners"]["b"] = {"bind": f"127.0.0.1:{port}", "mode": "forward", "to": "busy"}
    to = f"{server.address[0]}:{server.address[1]}"
    document["clusters"]["busy"] = {"endpoints": [to], "warm_up": False}
    file = tmp_path / "proxy.yaml"
    file.write_text(json.dumps(document))
    terminal = Terminal(wan, file)
    try:
        until(lambda: terminal.has("ready"), 30)
        sessions = 0
        while not terminal.has("warmed_up") and sessions < 1000:
            with socket.create_connection(("127.0.0.1", port), 10) as client:
                client.sendall(b"ping")
                assert client.recv(16) == b"pong"
            sessions += 1
        assert terminal.has("warmed_up")
    finally:
        terminal.close()
    screen = terminal.screen
    told = [re.search(r"^warm-up: (\d+) of (\d+) endpoints.*, \d+ s$", line) for line in screen.shown]
    numbers = [int(found[1]) for found in told if found]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > (5 if workers == 1 else 0), "workers report once a second"
    odd = [n for n, line in enumerate(screen.finished) if not re.match(r"\d\d:\d\d:\d\d ", line)]
    assert not odd, [screen.finished[max(n - 2, 0) : n + 3] for n in odd]
    assert not [line for line in screen.finished if "warm-up" in line]
    assert len([line for line in screen.finished if " session " in line]) == sessions > 20


def _free_port(wan: Wan) -> int:
    with wan.client.entered(), socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
