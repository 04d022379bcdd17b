"""One scene, played in the lab: a plain connection, a client's own fast opens, and several through the proxy."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.demo.program import Program
from proxy.demo.scenes import Scene
from proxy.demo.story import Run, told
from proxy.lab.behaviours import answers, speaks_first
from proxy.lab.capture import Capture
from proxy.lab.clients import ask
from proxy.lab.loopback import Loopback
from proxy.lab.servers import Address, Behaviour
from proxy.lab.wan import Wan

PATIENCE = 5.0  # seconds until a client gives up
PAUSE = 0.1
WARM_UP = 0.8  # at the most, until the proxy has fetched its cookies

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Played:
    """What was seen. ``rtt`` in seconds; ``trusting`` are the first bytes, in seconds, of a client that fast-opens by
    itself and believes the kernel (None: nothing came in `PATIENCE` seconds).
    """

    scene: Scene
    rtt: float
    plain: Run
    warm_up: Run
    through: tuple[Run, ...]
    trusting: tuple[float | None, ...]

    def round_trips(self, seconds: float | None) -> float | None:
        """A time in round trips of the path."""
        return None if seconds is None else seconds / self.rtt


def play(
    scene: Scene, rtt: float, connections: int, say: Say = lambda _: None, pcap: Path | None = None
) -> Played:
    """Play it. Raises LabUnavailableError, ProxyFailedError, and OSError where the lab cannot be built."""
    say("building the lab")
    with Wan(rtt=rtt) as wan, wan.client.entered(), Loopback(wan.client) as loopback:
        for name, parameters in scene.through:
            wan.install(name, **parameters)
        say("a plain connection")
        plain = _plainly(wan, scene)
        say("a client's own Fast Open")
        trusting = _trusting(wan, scene) if plain.first_byte is not None else ()
        loopback.take()
        server = _serve(wan, scene)
        say("starting the proxy")
        begun = time.monotonic()
        with Program(wan.client, _config(server)) as proxy:
            proxy_port = proxy.address[1]
            _quiet(wan, WARM_UP)
            warm_up = told(scene, _since(wan, begun, server), (), proxy_port)
            through: list[Run] = []
            for number in range(1, connections + 1):
                say(f"through the proxy, {number} of {connections}")
                through.append(_through(wan, scene, server, proxy, loopback, number))
                if plain.first_byte is None is through[-1].first_byte:
                    break  # nobody gets through: once is enough
        if pcap is not None:
            wan.capture().write_pcap(pcap)
    return Played(scene, rtt, plain, warm_up, tuple(through), trusting)


def _behaviour(scene: Scene) -> Behaviour:
    if scene.server_first:
        return speaks_first(scene.reply)
    return answers(scene.reply, request=len(scene.request), closes=True)


def _serve(wan: Wan, scene: Scene) -> Address:
    """A server nobody has dialled before."""
    return wan.serve(_behaviour(scene), port=scene.port, fast_open=256 if scene.fast_open else None).address


def _config(server: Address) -> dict[str, object]:
    """The smallest configuration there is, and a log for us to read."""
    return {
        "listeners": {"in": {"bind": "127.0.0.1:0", "mode": "forward", "to": f"{server[0]}:{server[1]}"}},
        "log": {"format": "json"},
        "drain": "1s",
    }


def _plainly(wan: Wan, scene: Scene) -> Run:
    ask(_serve(wan, scene), scene.request, fast_open=False, timeout=PATIENCE)
    time.sleep(wan.rtt)
    return told(scene, wan.capture(), ())


def _trusting(wan: Wan, scene: Scene) -> tuple[float | None, ...]:
    """The second and third connection of a client that fast-opens by itself: the first fetches the cookie."""
    server = _serve(wan, scene)
    ask(server, scene.request, timeout=PATIENCE)
    tries = [ask(server, scene.request, timeout=PATIENCE).first_byte]
    if tries[0] is not None:
        tries.append(ask(server, scene.request, timeout=PATIENCE).first_byte)
    return tuple(tries)


def _through(wan: Wan, scene: Scene, server: Address, proxy: Program, loopback: Loopback, number: int) -> Run:
    """The ``number``-th connection through the proxy, until its log line is there and the line has gone quiet."""
    begun = time.monotonic()
    with socket.socket() as client:
        client.settimeout(PATIENCE)
        try:
            client.connect(proxy.address)
            client.sendall(scene.request)
            client.recv(65536)
        except OSError:
            pass  # the packets tell
    session = dict(proxy.wait("session", number))
    _quiet(wan, wan.rtt + PAUSE)
    port = proxy.address[1]
    local = [heard for heard in loopback.take() if port in {heard.packet.sport, heard.packet.dport}]
    since = local[0].at if local else begun
    return told(scene, _since(wan, since, server), local, port, session)


def _since(wan: Wan, moment: float, server: Address) -> Capture:
    """What has entered the line since then, to a server or from it, and what routers said."""
    line = wan.capture().where(lambda packet: not packet.is_tcp or server[0] in {packet.src, packet.dst})
    return Capture(tuple(item for item in line if item.entered >= moment), line.epoch)


def _quiet(wan: Wan, atmost: float) -> None:
    """Wait until no packet has entered the line for a round trip; not longer than ``atmost`` seconds."""
    deadline = time.monotonic() + atmost
    while time.monotonic() < deadline:
        time.sleep(min(0.02, atmost))
        line = wan.capture()
        if line and time.monotonic() - line[-1].entered > wan.rtt + 0.02 and wan.rtt < atmost / 2:
            return
