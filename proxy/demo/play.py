"""One scene, played in the lab: a plain connection, a client's own fast opens, and several through the proxy."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from proxy.demo.program import Program
from proxy.demo.scenes import Scene
from proxy.demo.story import Run, Seen, told
from proxy.lab.behaviours import answers, speaks_first
from proxy.lab.capture import Capture
from proxy.lab.clients import ask
from proxy.lab.loopback import Heard, Loopback
from proxy.lab.servers import Address, Behaviour
from proxy.lab.wan import Wan

PATIENCE = 5.0  # seconds until a client gives up
PAUSE = 0.1
TUNNEL_PORT = 7413
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

    @property
    def settled(self) -> Run:
        """How it goes in the end: of all that went as the last one did, the one in the middle."""
        alike = [run for run in self.through if run.gist == self.through[-1].gist]
        return sorted(alike, key=lambda run: (run.first_byte is None, run.first_byte))[(len(alike) - 1) // 2]

    def round_trips(self, seconds: float | None) -> float | None:
        """A time in round trips of the path."""
        return None if seconds is None else seconds / self.rtt


def play(
    scene: Scene, rtt: float, connections: int, say: Say = lambda _: None, pcap: Path | None = None
) -> Played:
    """Play it. Raises LabUnavailableError, ProxyFailedError, and OSError where the lab cannot be built."""
    say("building the lab")
    with Wan(rtt=rtt) as wan, wan.client.entered():
        wan.install_all([(name, dict(parameters), "") for name, parameters in scene.through])
        say("a plain connection")
        plain = _plainly(wan, scene)
        say("a client's own Fast Open")
        trusting = () if scene.tunnel or plain.first_byte is None else _trusting(wan, scene)
        say("starting the proxy")
        with contextlib.ExitStack() as stage:
            cast = _Cast(wan, scene, stage)
            warm_up = cast.warm_up()
            through: list[Run] = []
            for number in range(1, connections + 1):
                say(f"through the proxy, {number} of {connections}")
                through.append(cast.connection(number))
                if plain.first_byte is None is through[-1].first_byte:
                    break  # nobody gets through: once is enough
        if pcap is not None:
            wan.capture().write_pcap(pcap)
    return Played(scene, rtt, plain, warm_up, tuple(through), trusting)


class _Cast:
    """Those who play: a server nobody has dialled before, the proxy, in a tunnel a second one, and a client."""

    def __init__(self, wan: Wan, scene: Scene, stage: contextlib.ExitStack) -> None:
        self._wan, self._scene = wan, scene
        self._server = _serve(wan, scene)
        self._dialled = self._server[0]
        self._near = stage.enter_context(Loopback(wan.client))
        self._far = stage.enter_context(Loopback(wan.server)) if scene.tunnel else None
        via: dict[str, object] = {}
        if scene.tunnel:
            key, self._dialled = secrets.token_hex(16), wan.fresh_address()
            gateway = f"{self._dialled}:{TUNNEL_PORT}"
            listener = {"bind": gateway, "mode": "tunnel", "key": key}
            beside = {"direct": {"allow": ["own"]}}  # the server is on the far proxy's machine
            stage.enter_context(Program(wan.server, {"listeners": {"far": listener}, **beside, **_ALIKE}))
            via = {"via": {"tunnel": gateway, "key": key}}
        self._began = time.monotonic()
        self._proxy = stage.enter_context(Program(wan.client, _config(self._server, via)))
        self._port = self._proxy.address[1]

    def warm_up(self) -> Run:
        """What the proxy does before it has clients."""
        _quiet(self._wan, WARM_UP)
        return told(self._scene, Seen(_since(self._wan, self._began, self._dialled)), self._port)

    def connection(self, number: int) -> Run:
        """The ``number``-th connection through the proxy, until its log line is there and the line has gone quiet."""
        self._take()
        began = time.monotonic()
        _talk(self._proxy.address, self._scene.request)
        session = dict(self._proxy.wait("session", number))
        _quiet(self._wan, self._wan.rtt + PAUSE)
        near, far = self._take()
        line = _since(self._wan, near[0].at if near else began, self._dialled)
        return told(self._scene, Seen(line, near, far, self._server[1]), self._port, session)

    def _take(self) -> tuple[list[Heard], list[Heard]]:
        """What was said beside the proxy, and beside the far one."""
        near = [one for one in self._near.take() if self._port in {one.packet.sport, one.packet.dport}]
        heard = self._far.take() if self._far is not None else []
        return near, [one for one in heard if self._server[1] in {one.packet.sport, one.packet.dport}]


def _talk(address: Address, request: bytes) -> None:
    """Connect, say what there is to say, and wait for the first byte; the packets tell what becomes of it."""
    with socket.socket() as client, contextlib.suppress(OSError):
        client.settimeout(PATIENCE)
        client.connect(address)
        client.sendall(request)
        client.recv(65536)


def _behaviour(scene: Scene) -> Behaviour:
    if scene.server_first:
        return speaks_first(scene.reply)
    return answers(scene.reply, request=len(scene.request), closes=True)


def _serve(wan: Wan, scene: Scene) -> Address:
    """A server nobody has dialled before."""
    return wan.serve(_behaviour(scene), port=scene.port, fast_open=256 if scene.fast_open else None).address


_ALIKE: Mapping[str, object] = {"log": {"format": "json"}, "drain": "1s"}


def _config(server: Address, via: Mapping[str, object]) -> dict[str, object]:
    """The smallest configuration there is, and a log for us to read."""
    return {
        "listeners": {"in": {"bind": "127.0.0.1:0", "mode": "forward", "to": "out"}},
        "clusters": {"out": {"endpoints": [f"{server[0]}:{server[1]}"], **via}},
        **_ALIKE,
    }


def _plainly(wan: Wan, scene: Scene) -> Run:
    ask(_serve(wan, scene), scene.request, fast_open=False, timeout=PATIENCE)
    time.sleep(wan.rtt)
    return told(scene, Seen(wan.capture()))


def _trusting(wan: Wan, scene: Scene) -> tuple[float | None, ...]:
    """The second and third connection of a client that fast-opens by itself: the first fetches the cookie."""
    server = _serve(wan, scene)
    ask(server, scene.request, timeout=PATIENCE)
    tries = [ask(server, scene.request, timeout=PATIENCE).first_byte]
    if tries[0] is not None:
        tries.append(ask(server, scene.request, timeout=PATIENCE).first_byte)
    return tuple(tries)


def _since(wan: Wan, moment: float, host: str) -> Capture:
    """What has entered the line since then, to a host or from it, and what routers said."""
    line = wan.capture().where(lambda packet: not packet.is_tcp or host in {packet.src, packet.dst})
    return Capture(tuple(item for item in line if item.entered >= moment), line.epoch)


def _quiet(wan: Wan, atmost: float) -> None:
    """Wait until no packet has entered the line for a round trip; not longer than ``atmost`` seconds."""
    deadline = time.monotonic() + atmost
    while time.monotonic() < deadline:
        time.sleep(min(0.02, atmost))
        line = wan.capture()
        if line and time.monotonic() - line[-1].entered > wan.rtt + 0.02 and wan.rtt < atmost / 2:
            return
