"""Where scenarios are run: a lab, our program twice, the programs of others, and a lane for each of them."""

from __future__ import annotations

import contextlib
import enum
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import trio

from proxy.lab.namespaces import Namespace, python_environment
from proxy.lab.servers import TCP_FASTOPEN
from proxy.lab.wan import Wan
from tests.differ.actors import SETTLE, Connect, Ear, Handshake, Seen, Session, Upstream, shaken
from tests.differ.scenarios import FAR, NAMED, PATHS, RTT, SERVERS, Scenario

PORT, FAR_PORT = 8000, 7413
GATEWAY = {"via_socks": 7411, "via_http": 7412}  # their ports
EVERY_LISTENER = 0x403  # each takes SYN data, whether it asked for it or not (ip-sysctl.rst, tcp_fastopen)
BURST = 5
NAMED_PORT = {"auto": 7401, "off": 7402}
MICROSOCKS, TINYPROXY, DANTE = 7403, 7404, 7405
FIRST_PORT = 10_000
KEY = "9f1c2ab84d07e65390b8c4fd7712a6e3505b9e8d1f4c27a6038d5e91b6f2c47a"
MSG_FASTOPEN = 0x20000000
CONNECT_TIMEOUT = "2s"
LONGEST = 8.0  # seconds after which a lane has no further session


class By(enum.StrEnum):
    """What a scenario goes through."""

    AUTO = "auto"  # our program as it is
    OFF = "off"  # our program with `fast_open: off`
    PEER = "peer"  # another program
    DIRECT = "direct"  # nothing: a client that dials by itself, as RFC 8305 says


@dataclass(slots=True)
class Lane:
    """One scenario through one program: its addresses, its servers, and what its sessions saw."""

    scenario: Scenario
    by: By
    number: int
    peer: str = ""
    addresses: list[str] = field(default_factory=list[str])
    far: str = ""
    upstreams: list[Upstream] = field(default_factory=list[Upstream])
    sessions: list[tuple[Seen, list[Ear]]] = field(default_factory=list[tuple[Seen, list[Ear]]])
    log: list[dict[str, object]] = field(default_factory=list[dict[str, object]])

    @property
    def host(self) -> str:
        """How the destination is named."""
        named = self.scenario.name.startswith("name")
        return f"lane{self.number}.test" if named else self.addresses[0]

    @property
    def port(self) -> int:
        """Of the listener that has this lane alone, if one has."""
        return FIRST_PORT + self.number

    @property
    def target(self) -> str:
        return f"[{self.host}]:{PORT}" if ":" in self.host else f"{self.host}:{PORT}"


def peer_of(scenario: Scenario) -> str:
    """Which program of others can do this; "" where none can."""
    named = scenario.name.startswith("name")
    match scenario.way:
        case "forward" | "headed_v1" | "headed_v2" if not named:
            return "haproxy"
        case "socks5":
            return "microsocks"
        case "connect" | "http":
            return "tinyproxy"
        case "socks4" | "socks4a":
            return "danted"
        case _:
            return ""


class Stage:
    """A lab with everything in it that these scenarios need. A context manager; its thread is the client's."""

    def __init__(
        self, scenarios: Sequence[Scenario], peers: frozenset[str], *, code: Path | None = None
    ) -> None:
        self._undo = contextlib.ExitStack()
        self._code = code
        self.lanes: list[Lane] = []
        for scenario in scenarios:
            for by in By:
                peer = peer_of(scenario) if by is By.PEER else ""
                if by is By.PEER and peer not in peers:
                    continue
                self.lanes.append(Lane(scenario, by, len(self.lanes), peer))

    def __enter__(self) -> Self:
        with self._undo:
            self.wan = self._undo.enter_context(Wan(rtt=RTT))
            self._undo.enter_context(self.wan.client.entered())
            self._folder = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="differ-")))
            self._folder.chmod(0o755)
            self._build()
            self._undo = self._undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    # The lab

    def _build(self) -> None:
        boxes: list[tuple[str, dict[str, object], str]] = []
        for lane in self.lanes:
            lane.addresses = [self._address(lane, kind) for kind in lane.scenario.addresses]
            path = PATHS[lane.scenario.path]
            tunnelled = lane.scenario.way in FAR and lane.by in (By.AUTO, By.OFF)
            if tunnelled:
                lane.far = self.wan.fresh_address()
            for host in [lane.far] if tunnelled else lane.addresses:
                boxes += [(name, params, host) for name, params in path]
        self.wan.install_all(boxes)
        (self._folder / "hosts").write_text(self._hosts())
        (self._folder / "gai.conf").write_text("precedence ::/0 60\nprecedence ::ffff:0:0/96 10\n")
        ways = {lane.scenario.way for lane in self.lanes if lane.far}
        if "tunnel" in ways:
            self._start_ours("far", self._far_document(), self.wan.server)
        if ways - {"tunnel"}:
            self.wan.server.sysctl("net.ipv4.tcp_fastopen", EVERY_LISTENER)
        if "via_socks" in ways:
            self._start_gateway("via_socks", ["microsocks", "-i", "0.0.0.0", "-p", str(GATEWAY["via_socks"])])
        if "via_http" in ways:
            file = self._folder / "gateway.conf"
            file.write_text(f"Port {GATEWAY['via_http']}\nListen 0.0.0.0\nTimeout 60\nMaxClients 1000\n")
            self._start_gateway("via_http", ["tinyproxy", "-d", "-c", str(file)])
        for by in (By.AUTO, By.OFF):
            self._start_ours(by, self._document(by), self.wan.client)
        for peer in {lane.peer for lane in self.lanes if lane.peer}:
            self._start_peer(peer)

    def _address(self, lane: Lane, kind: str) -> str:
        version = int(kind[-1])
        if kind.startswith("dead"):
            return self.wan.unrouted_address(version)
        address = self.wan.fresh_address(version)
        if kind.startswith("refused") or not SERVERS[lane.scenario.server].listens:
            return address
        listener = self.wan.server.socket(socket.AF_INET6 if version == 6 else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, PORT))
        if lane.scenario.fast_open == "yes":
            listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 256)
        listener.listen(64)
        listener.setblocking(False)
        lane.upstreams.append(Upstream(lane.scenario, listener))
        return address

    def _hosts(self) -> str:
        lines = ["127.0.0.1 localhost", "::1 localhost"]
        for lane in self.lanes:
            if lane.scenario.name.startswith("name"):
                lines += [f"{address} {lane.host}" for address in lane.addresses]
        return "\n".join(lines) + "\n"

    # Our program

    def _document(self, by: By) -> dict[str, object]:
        listeners: dict[str, object] = {
            "named": {"bind": f"127.0.0.1:{NAMED_PORT[by]}", "mode": "mixed"},
        }
        clusters: dict[str, object] = {}
        for lane in self.lanes:
            if lane.by is not by or lane.scenario.way in NAMED:
                continue
            name = f"lane{lane.number}"
            listeners[name] = {"bind": f"127.0.0.1:{lane.port}", "mode": "forward", "to": name}
            cluster: dict[str, object] = {"endpoints": [lane.target]}
            match lane.scenario.way:
                case "headed_v1" | "headed_v2":
                    cluster["proxy_protocol"] = lane.scenario.way[-2:]
                case "tunnel":
                    port = FAR_PORT if lane.scenario.fast_open == "yes" else FAR_PORT + 1
                    cluster["via"] = {"tunnel": f"{lane.far}:{port}", "key": KEY}
                case "via_socks" | "via_http":
                    kind = lane.scenario.way.removeprefix("via_")
                    cluster["via"] = {kind: f"{lane.far}:{GATEWAY[lane.scenario.way]}"}
                case "spare":
                    cluster["preconnect"] = 2
                case _:
                    pass
            clusters[name] = cluster
        document: dict[str, object] = {"listeners": listeners, "log": {"format": "json"}}
        if clusters:
            document["clusters"] = clusters
        fast_open = "auto" if by is By.AUTO else "off"
        defaults = {"fast_open": fast_open, "warm_up": False, "connect": {"timeout": CONNECT_TIMEOUT}}
        return document | {"defaults": defaults}

    def _far_document(self) -> dict[str, object]:
        return {
            "listeners": {
                "far": {"bind": f"*:{FAR_PORT}", "mode": "tunnel", "key": KEY},
                "far_plain": {"bind": f"*:{FAR_PORT + 1}", "mode": "tunnel", "key": KEY, "fast_open": False},
            },
            "direct": {"deny": []},
            "log": {"format": "json"},
        }

    def _start_ours(self, name: str, document: dict[str, object], namespace: Namespace) -> None:
        file = self._folder / f"{name}.yaml"
        file.write_text(json.dumps(document))
        env = python_environment()
        if self._code is not None:
            env["PYTHONPATH"] = str(self._code)
        command = [sys.executable, "-m", "proxy", "run", str(file)]
        self._start(name, command, namespace, lambda log: '"ready"' in log, env, cwd=self._code)

    # Other programs

    def _start_gateway(self, way: str, command: list[str]) -> None:
        def ready(_: str) -> bool:
            return self.wan.server.call(_listens, GATEWAY[way])

        self._start(f"far-{way}", command, self.wan.server, ready)

    def _start_peer(self, name: str) -> None:
        file = self._folder / f"{name}.conf"
        match name:
            case "haproxy":
                file.write_text(self._haproxy())
                command = ["haproxy", "-db", "-f", str(file)]
                ports = [lane.port for lane in self.lanes if lane.peer == name]
            case "microsocks":
                command, ports = ["microsocks", "-i", "127.0.0.1", "-p", str(MICROSOCKS)], [MICROSOCKS]
            case "tinyproxy":
                file.write_text(
                    f"Port {TINYPROXY}\nListen 127.0.0.1\nTimeout 60\nMaxClients 1000\nAllow 127.0.0.1\n"
                )
                command, ports = ["tinyproxy", "-d", "-c", str(file)], [TINYPROXY]
            case "danted":
                file.write_text(DANTED)
                command, ports = ["danted", "-f", str(file), "-p", str(self._folder / "danted.pid")], [DANTE]
            case _:
                raise ValueError(name)
        self._start(name, command, self.wan.client, lambda _: _listens(ports[-1]))

    def _haproxy(self) -> str:
        lines = ["global", "  maxconn 4000", "  nbthread 1", "defaults", "  mode tcp", "  retries 0"]
        lines += [f"  timeout connect {CONNECT_TIMEOUT}", "  timeout client 30s", "  timeout server 30s"]
        for lane in self.lanes:
            if lane.peer == "haproxy":
                header = {"headed_v1": " send-proxy", "headed_v2": " send-proxy-v2"}.get(
                    lane.scenario.way, ""
                )
                host = f"ipv6@{lane.host}" if ":" in lane.host else lane.host
                lines += [f"listen l{lane.number}", f"  bind 127.0.0.1:{lane.port}"]
                lines += [f"  server s {host}:{PORT}{header}"]
        return "\n".join(lines) + "\n"

    def _start(
        self,
        name: str,
        command: list[str],
        namespace: Namespace,
        ready: Callable[[str], bool],
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Start a program with names of its own, and wait until it is ready. It is ended with the stage."""
        mounts = [f"mount --bind {self._folder}/{file} /etc/{file}" for file in ("hosts", "gai.conf")]
        script = " && ".join([*mounts, 'exec "$@"'])
        rights = [] if os.geteuid() == 0 else ["--map-root-user"]
        output = self._folder / f"{name}.log"
        with namespace.entered(), output.open("wb") as file:
            process = subprocess.Popen(
                ["unshare", "--mount", *rights, "sh", "-c", script, "sh", *command],
                env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        self._undo.callback(_end, process)
        deadline = time.monotonic() + 20
        while not ready(output.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start:\n{output.read_text(errors='replace')[-3000:]}")
            time.sleep(0.02)

    def read_logs(self) -> None:
        """Give each lane of ours the lines of its sessions, by the ports of its clients."""
        for by in (By.AUTO, By.OFF):
            by_port: dict[str, dict[str, object]] = {}
            for text in (self._folder / f"{by}.log").read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    line = json.loads(text)
                    if "client" in line:
                        by_port[str(line["client"]).rpartition(":")[2]] = line
            for lane in self.lanes:
                if lane.by is by:
                    ports = [str(port) for seen, _ in lane.sessions for port in seen.ports]
                    lane.log = [by_port[port] for port in ports if port in by_port]

    # Sessions

    async def run(self, lane: Lane, sessions: int) -> None:
        """So many sessions, one after the other, with the servers of the lane."""
        async with trio.open_nursery() as nursery:
            for upstream in lane.upstreams:
                nursery.start_soon(upstream.serve)
            if lane.scenario.cookie == "held":
                await self._fetch_cookie(lane)
            enough = trio.current_time() + LONGEST
            for _ in range(sessions):
                await self._run_one(lane)
                if trio.current_time() > enough:
                    break
            nursery.cancel_scope.cancel()

    async def _run_burst(self, lane: Lane) -> None:
        """Some clients at once. Which conversation was whose, nobody knows."""
        clients = [self._session(lane) for _ in range(BURST)]
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(client.run)
        await trio.sleep(2 * RTT)
        lane.sessions += [
            (client.seen, []) for client in sorted(clients, key=lambda one: one.seen.first or 0.0)
        ]

    def _session(self, lane: Lane) -> Session:
        session = Session(lane.scenario, self._connector(lane), self._handshake(lane))
        session.authority = b"" if lane.by is By.DIRECT else lane.target.encode()
        return session

    async def _run_one(self, lane: Lane) -> None:
        if lane.scenario.load == "burst":
            await self._run_burst(lane)
            return
        before = [len(upstream.ears) for upstream in lane.upstreams]
        seen = await self._session(lane).run()
        until = trio.current_time() + SETTLE
        for ear in self._ears(lane, before):
            await ear.until(lambda: False, until - trio.current_time())
        await trio.sleep(RTT)
        ears = [] if lane.scenario.way == "spare" else self._ears(lane, before)  # some are of no session yet
        lane.sessions.append((seen, ears))

    @staticmethod
    def _ears(lane: Lane, before: list[int]) -> list[Ear]:
        return [
            ear for upstream, old in zip(lane.upstreams, before, strict=True) for ear in upstream.ears[old:]
        ]

    def _handshake(self, lane: Lane) -> Handshake | None:
        return None if lane.by is By.DIRECT else shaken(lane.scenario.way, lane.host, PORT)

    def _connector(self, lane: Lane) -> Connect:
        if lane.by is By.DIRECT:
            return lambda: _dial(lane.addresses)
        peers = {"microsocks": MICROSOCKS, "tinyproxy": TINYPROXY, "danted": DANTE}
        if lane.by is By.PEER:
            port = peers.get(lane.peer, lane.port)
        else:
            port = NAMED_PORT[lane.by] if lane.scenario.way in NAMED else lane.port
        return lambda: _dial(["127.0.0.1"], port)

    async def _fetch_cookie(self, lane: Lane) -> None:
        """What a run of the program before this one would have left in the kernel."""
        for address in [lane.far] if lane.far else lane.addresses:
            if address.startswith(("10.77.3.", "fd77:3:")):
                continue
            sock = trio.socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            with sock, contextlib.suppress(OSError):
                port = GATEWAY.get(lane.scenario.way, FAR_PORT + (lane.scenario.fast_open == "no"))
                port = port if lane.far else PORT
                with contextlib.suppress(BlockingIOError):
                    socket.socket.sendto(sock._sock, b"", MSG_FASTOPEN, (address, port))  # type: ignore[attr-defined]
                with trio.move_on_after(4 * RTT):
                    await trio.lowlevel.wait_writable(sock)
        await trio.sleep(2 * RTT)


DANTED = f"""
logoutput: stderr
internal: 127.0.0.1 port = {DANTE}
external: wan0
socksmethod: none
clientmethod: none
timeout.connect: 2
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
"""


async def _dial(addresses: Sequence[str], port: int = PORT) -> trio.socket.SocketType:
    """A plain connection to the first of these that answers, as RFC 8305 says. Raises OSError."""
    if len(addresses) == 1:
        sock = trio.socket.socket(socket.AF_INET6 if ":" in addresses[0] else socket.AF_INET)
        try:
            with trio.fail_after(3.0):
                await sock.connect((addresses[0], port))
        except BaseException as error:
            sock.close()
            if isinstance(error, trio.TooSlowError):
                raise TimeoutError from None
            raise
        return sock
    name = _RESOLVER.add(addresses)
    try:
        with trio.fail_after(3.0):
            return (await trio.open_tcp_stream(name, port)).socket
    except trio.TooSlowError:
        raise TimeoutError from None


class _Resolver(trio.abc.HostnameResolver):
    """Gives trio the addresses that a name of ours stands for."""

    def __init__(self) -> None:
        self._known: dict[str, list[str]] = {}

    def add(self, addresses: Sequence[str]) -> str:
        """A new name for these."""
        name = f"direct{len(self._known)}.test"
        self._known[name] = list(addresses)
        return name

    async def getaddrinfo(  # trio's own signature
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        addresses = self._known[(host or b"").decode()]
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "",
                (address, port, 0, 0) if ":" in address else (address, port),
            )
            for address in addresses
        ]  # fmt: skip

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


_RESOLVER = _Resolver()


def use_names() -> None:
    """Let trio's own dialler know the names of scenarios. Call it within a run."""
    trio.socket.set_custom_hostname_resolver(_RESOLVER)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that was started here, with its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


PEERS = frozenset({"haproxy", "microsocks", "tinyproxy", "danted"})


def installed() -> frozenset[str]:
    """Which of the other programs are on this machine."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return frozenset(name for name in PEERS if shutil.which(name, path=path))
