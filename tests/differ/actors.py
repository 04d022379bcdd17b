"""The clients and servers of a scenario, as trio tasks on plain sockets; what each of them has seen."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import trio

from tests.differ.scenarios import CLIENTS, EARLY, HTTP, RTT, SAYS, SERVERS, Scenario, noise

PATIENCE = 3.5  # seconds that a client waits for an answer
SHORT = 1.0  # the same where the server says nothing
FOREVER = 1e6
SETTLE = 0.6  # seconds that a server has to notice that a client has ended
BANNER = noise(60)
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class Ear:
    """Reads a socket to its end, and remembers what came and when. Times are trio's."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self.socket = sock
        self.began = trio.current_time()
        self.received = bytearray()
        self.chunks: list[tuple[float, int]] = []  # time, and all that had come by then
        self.ended = ""  # "eof", "reset", or "ours" where this side has reset it
        self.ended_at: float | None = None
        self.taken = 0
        self._changed = trio.Event()

    async def listen(self) -> None:
        """Read until the end."""
        try:
            while data := await self.socket.recv(1 << 16):
                self.received += data
                self._note()
            self.ended = "eof"
        except OSError:
            self.ended = "reset"
        except trio.ClosedResourceError:
            self.ended = "ours"
        self.ended_at = trio.current_time()
        self._wake()

    async def until(self, condition: Callable[[], object], timeout: float) -> bool:
        """Wait for a condition that only this ear can bring about; whether it holds."""
        with trio.move_on_after(max(0.0, timeout)):
            while not condition() and not self.ended:
                await self._changed.wait()
        return bool(condition())

    async def more(self) -> None:
        """Wait for something, bytes or the end."""
        if not self.ended:
            await self._changed.wait()

    async def take(self, size: int) -> bytes:
        """The next bytes of a handshake. Raises Denied where they do not come."""
        wanted = self.taken + size
        if not await self.until(lambda: len(self.received) >= wanted, PATIENCE):
            raise Denied(self.ended or "timeout")
        self.taken = wanted
        return bytes(self.received[wanted - size : wanted])

    async def take_until(self, mark: bytes) -> bytes:
        """The next bytes, up to and with this mark. Raises Denied."""
        if not await self.until(lambda: self.received.find(mark, self.taken) >= 0, PATIENCE):
            raise Denied(self.ended or "timeout")
        return await self.take(self.received.find(mark, self.taken) + len(mark) - self.taken)

    @property
    def said(self) -> bytes:
        """What came behind the handshake."""
        return bytes(self.received[self.taken :])

    @property
    def first_at(self) -> float | None:
        return next((when for when, size in self.chunks if size > self.taken), None)

    def _note(self) -> None:
        self.chunks.append((trio.current_time(), len(self.received)))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Denied(Exception):
    """The proxy did not connect the client; the text is what it said, or how it ended."""


async def send(sock: trio.socket.SocketType, data: bytes) -> None:
    """All of it; what nobody takes any more is lost."""
    with contextlib.suppress(OSError, trio.ClosedResourceError):
        view = memoryview(data)
        while view:
            view = view[await sock.send(view) :]


def half_close(sock: trio.socket.SocketType) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


def reset(sock: trio.socket.SocketType) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def messages(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole HTTP/1 messages at the beginning of these bytes, and what is left."""
    found: list[bytes] = []
    while (head := data.find(_HEAD_END)) >= 0:
        length = _LENGTH.search(data[: head + 2])
        end = head + 4 + (int(length[1]) if length else 0)
        if len(data) < end:
            break
        found.append(data[:end])
        data = data[end:]
    return found, data


def answer(scenario: Scenario) -> bytes:
    """What the server of this scenario answers to one request."""
    size = SERVERS[scenario.server].answer
    return (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
        + (bytes(range(256)) * (size // 256 + 1))[:size]
    )


def heard(scenario: Scenario, data: bytes) -> bytes:
    """What a server got, without the PROXY header that the scenario puts before it (b"" while that is not whole)."""
    if scenario.way == "headed_v1" and data.startswith(b"PROXY "):
        return data.partition(b"\r\n")[2]
    if scenario.way == "headed_v2" and data.startswith(b"\r\n\r\n\0\r\nQUIT\n"):
        return data[16 + int.from_bytes(data[14:16], "big") :]
    return data


# --- servers


class Upstream:
    """One listening socket, and all the conversations that came of it."""

    def __init__(self, scenario: Scenario, listener: socket.socket) -> None:
        self._scenario = scenario
        self._listener = trio.socket.from_stdlib_socket(listener)
        self.ears: list[Ear] = []

    async def serve(self) -> None:
        """Until it is cancelled."""
        with self._listener:
            async with trio.open_nursery() as nursery:
                while True:
                    sock, _ = await self._listener.accept()
                    ear = Ear(sock)
                    self.ears.append(ear)
                    nursery.start_soon(self._converse, ear)

    async def _converse(self, ear: Ear) -> None:
        with ear.socket:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ear.listen)
                await self._behave(ear)
                await ear.until(lambda: ear.ended, FOREVER)
                nursery.cancel_scope.cancel()

    async def _behave(self, ear: Ear) -> None:
        server, scenario = SERVERS[self._scenario.server], self._scenario
        if server.first:
            self._end(ear, server.first)
            return
        if server.banner:
            await trio.sleep(server.banner_after)
            await send(ear.socket, BANNER[: server.banner])
        if server.echoes:
            await self._echo(ear)
            return
        answered, wanted = 0, 2 if CLIENTS[scenario.client].again else 1
        while await self._await_request(ear, answered):
            if server.then:
                if server.then != "nothing":
                    self._end(ear, server.then)
                return
            if not await self._answer(ear):
                return
            answered += 1
            if answered >= wanted and await self._ended(ear):
                return
        if server.keeps_open:
            await trio.sleep(0.3)

    async def _await_request(self, ear: Ear, answered: int) -> bool:
        return await ear.until(lambda: self._asked(ear) > answered, FOREVER)

    async def _answer(self, ear: Ear) -> bool:
        """Think, and answer; False where the client has gone before."""
        server = SERVERS[self._scenario.server]
        if server.aborts:
            await ear.until(lambda: False, server.think)
        else:
            await trio.sleep(server.think)
        if server.aborts and ear.ended:
            reset(ear.socket)
            return False
        await send(ear.socket, answer(self._scenario))
        return True

    async def _ended(self, ear: Ear) -> bool:
        """Whether this side has ended the conversation with its answer."""
        match self._scenario.end:
            case "server_fin" | "both_fin":
                half_close(ear.socket)
                return True
            case "server_rst":
                await trio.sleep(2 * RTT)
                reset(ear.socket)
                return True
            case _:
                return False

    def _asked(self, ear: Ear) -> int:
        """How many requests have come."""
        if self._scenario.says in HTTP:
            return len(messages(heard(self._scenario, bytes(ear.received)))[0])
        size = len(SAYS[self._scenario.says])
        return len(heard(self._scenario, bytes(ear.received))) // size if size else 0

    async def _echo(self, ear: Ear) -> None:
        says, echoed = len(SAYS[self._scenario.says]), 0
        while not ear.ended or len(ear.received) > echoed:
            piece = bytes(ear.received[echoed:])
            echoed += len(piece)
            await send(ear.socket, piece)
            if self._scenario.end in ("server_fin", "both_fin") and echoed >= says:
                half_close(ear.socket)
                return
            if len(ear.received) == echoed:
                await ear.more()

    @staticmethod
    def _end(ear: Ear, how: str) -> None:
        (half_close if how == "close" else reset)(ear.socket)


# --- clients


class Lag:
    """How late this process is woken: what a machine that is busy with other things adds to every time."""

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []

    async def measure(self, step: float = 0.004) -> None:
        """Until it is cancelled."""
        while True:
            due = trio.current_time() + step
            await trio.sleep_until(due)
            if (late := trio.current_time() - due) > step:
                self._late.append((due, late))

    def since(self, moment: float) -> float:
        """The most of it since then."""
        return max((late for due, late in reversed(self._late) if due >= moment), default=0.0)


LAG = Lag()


@dataclass(slots=True)
class Seen:
    """What one session's client saw, in seconds since it began; and what its server got, in `ears`."""

    began: float = 0.0
    granted: float | None = None
    denied: str = ""
    first: float | None = None
    complete: float | None = None
    received: bytes = b""
    end: str = ""
    end_at: float | None = None
    left: float = 0.0
    lag: float = 0.0  # the longest that this machine kept the clients' loop from its work meanwhile
    ports: list[int] = field(default_factory=list[int])


Connect = Callable[[], Awaitable[trio.socket.SocketType]]
Handshake = Callable[[Ear, bytes], Awaitable[None]]


class Session:
    """One client of a scenario: `run` it once. `handshake` is None where it speaks to the server as it is."""

    def __init__(self, scenario: Scenario, connect: Connect, handshake: Handshake | None) -> None:
        self._scenario, self._connect, self._handshake = scenario, connect, handshake
        self._client, self._server = CLIENTS[scenario.client], SERVERS[scenario.server]
        self._patience = SHORT if self._server.then == "nothing" else PATIENCE
        self.seen = Seen()
        self._began = 0.0

    async def run(self) -> Seen:
        self._began = self.seen.began = trio.current_time()
        if self._scenario.is_http:
            await self._run_http()
        else:
            async with self._connected() as ear:
                if ear is not None:
                    await self._talk(ear)
        self.seen.lag = LAG.since(self._began)
        return self.seen

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Ear | None]:
        """A connection that may be spoken on, with an ear on it; None where it was denied."""
        seen = self.seen
        try:
            sock = await self._connect()
        except OSError as error:
            seen.denied = type(error).__name__
            seen.left = seen.end_at = trio.current_time() - self._began
            yield None
            return
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            seen.ports.append(sock.getsockname()[1])
        ear = Ear(sock)
        with sock:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ear.listen)
                try:
                    if self._handshake is not None:
                        await self._handshake(ear, SAYS[self._scenario.says] if self._client.eager else b"")
                    if seen.granted is None:
                        seen.granted = trio.current_time() - self._began
                except Denied as denied:
                    seen.denied = str(denied)
                    yield None
                else:
                    yield ear
                if not seen.left:
                    seen.left = trio.current_time() - self._began
                self._look(ear)
                nursery.cancel_scope.cancel()

    def _look(self, ear: Ear) -> None:
        seen = self.seen
        seen.received += ear.said
        if seen.first is None and ear.first_at is not None:
            seen.first = ear.first_at - self._began
        seen.end = ear.ended
        seen.end_at = None if ear.ended_at is None else ear.ended_at - self._began

    async def _speak(self, ear: Ear, data: bytes) -> None:
        client = self._client
        step = -(-len(data) // client.pieces) if data else 1
        for at in range(0, len(data), step):
            if at:
                await trio.sleep(client.gap)
            await send(ear.socket, data[at : at + step])

    async def _talk(self, ear: Ear) -> None:
        scenario, client, server = self._scenario, self._client, self._server
        reply = await self._say(ear)
        if scenario.end in EARLY:
            await ear.until(lambda: False, EARLY[scenario.end])
            self._leave(ear)
            return
        expected = 1 << 30 if server.first or server.then else server.banner + reply
        if not await ear.until(lambda: len(ear.said) >= expected, self._patience):
            return
        if client.again:
            await send(ear.socket, SAYS[scenario.says])
            self._maybe_half_close(ear)
            if not await ear.until(lambda: len(ear.said) >= expected + reply, self._patience):
                return
        self.seen.complete = trio.current_time() - self._began
        if not scenario.end.startswith("client_") or scenario.end == "client_half":
            await ear.until(lambda: False, SHORT)
        self._leave(ear)

    async def _say(self, ear: Ear) -> int:
        """What there is to say first; how many bytes of answers that is worth."""
        scenario, client, server = self._scenario, self._client, self._server
        says = SAYS[scenario.says]
        reply = len(says) if server.echoes else len(answer(scenario)) if says else 0
        if client.banner:
            await ear.until(lambda: len(ear.said) >= server.banner > 0, self._patience)
        await trio.sleep(client.pause)
        if not client.eager or self._handshake is None:
            await self._speak(ear, says)
        if client.extra:
            await trio.sleep(client.gap)
            await send(ear.socket, client.extra)
            more = len(answer(scenario)) * len(messages(client.extra)[0])
            reply += len(client.extra) if server.echoes else more
        if not client.again:
            self._maybe_half_close(ear)
        return reply

    def _maybe_half_close(self, ear: Ear) -> None:
        if self._scenario.end in ("client_half", "both_fin"):
            half_close(ear.socket)

    def _leave(self, ear: Ear) -> None:
        """End this side as the scenario says."""
        self.seen.left = trio.current_time() - self._began
        if self._scenario.end.startswith("client_rst"):
            self._look(ear)
            reset(ear.socket)
        else:
            half_close(ear.socket)

    async def _run_http(self) -> None:
        """A client of a plain HTTP proxy: what was not answered on one connection is asked on the next."""
        scenario, client = self._scenario, self._client
        requests = [SAYS[scenario.says]] * (2 if client.again else 1)
        requests += messages(client.extra)[0]
        bodies: list[bytes] = []
        for _ in range(len(requests)):
            async with self._connected() as ear:
                if ear is None:
                    return
                here = 0
                while len(bodies) < len(requests):
                    if not await self._ask(ear, requests[len(bodies)], here):
                        break
                    here += 1
                    bodies.append(messages(ear.said)[0][here - 1])
                    if re.search(rb"(?i)\r\nconnection: *close", bodies[-1].partition(_HEAD_END)[0]):
                        break
                if len(bodies) == len(requests):
                    self.seen.complete = trio.current_time() - self._began
                    if scenario.end == "client_half":
                        await ear.until(lambda: False, SHORT)
                    self._leave(ear)
                    break
        self.seen.received = b"".join(
            body.partition(_HEAD_END)[2] if body.split(b" ", 2)[1] == b"200" else b"an error"
            for body in bodies
        )

    async def _ask(self, ear: Ear, request: bytes, before: int) -> bool:
        """Send one request, behind so many on this connection; whether its answer has come whole."""
        scenario, client = self._scenario, self._client
        if before == 0 or not messages(client.extra)[0]:  # else it went out with the first one
            await trio.sleep(client.pause)
            await self._speak(ear, self.absolute(request))
        if client.extra and before == 0:
            await trio.sleep(client.gap)
            await send(ear.socket, self.absolute(client.extra))
        if not client.again:
            self._maybe_half_close(ear)
        if scenario.end in EARLY:
            await ear.until(lambda: False, EARLY[scenario.end])
            self._leave(ear)
            return False
        return await ear.until(lambda: len(messages(ear.said)[0]) > before, self._patience)

    authority = b""  # where requests go in absolute form; b"" for a server that is asked itself

    def absolute(self, request: bytes) -> bytes:
        if not self.authority or not request.startswith((b"GET", b"POST")):
            return request
        request = request.replace(b" /things", b" http://" + self.authority + b"/things", 1)
        return request.replace(b"example.test", self.authority, 1)


# --- handshakes of the ways in


def shaken(way: str, host: str, port: int) -> Handshake | None:
    """How a client asks a proxy for this destination; None where it does not ask."""
    match way:
        case "socks4":
            return _socks4(struct.pack("!BBH", 4, 1, port) + ipaddress.ip_address(host).packed + b"me\0")
        case "socks4a":
            return _socks4(struct.pack("!BBHIx", 4, 1, port, 1) + host.encode() + b"\0")
        case "socks5":
            return _socks5(host, port)
        case "connect":
            named = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            return _connect(f"CONNECT {named} HTTP/1.1\r\nHost: {named}\r\n\r\n".encode())
        case _:
            return None


def _socks4(request: bytes) -> Handshake:
    async def handshake(ear: Ear, eager: bytes) -> None:
        await send(ear.socket, request + eager)
        reply = await ear.take(8)
        if reply[1] != 90:
            raise Denied(f"socks4 {reply[1]}")

    return handshake


def _socks5(host: str, port: int) -> Handshake:
    try:
        number = ipaddress.ip_address(host)
        target = bytes([1 if number.version == 4 else 4]) + number.packed
    except ValueError:
        target = b"\3" + bytes([len(host)]) + host.encode()
    request = b"\5\1\0" + target + struct.pack("!H", port)

    async def handshake(ear: Ear, eager: bytes) -> None:
        if eager:
            await send(ear.socket, b"\5\1\0" + request + eager)
            await ear.take(2)
        else:
            await send(ear.socket, b"\5\1\0")
            await ear.take(2)
            await send(ear.socket, request)
        _, code, _, kind = await ear.take(4)
        await ear.take({1: 6, 4: 18}.get(kind, 0) or (await ear.take(1))[0] + 2)
        if code:
            raise Denied(f"socks5 {code}")

    return handshake


def _connect(request: bytes) -> Handshake:
    async def handshake(ear: Ear, eager: bytes) -> None:
        await send(ear.socket, request + eager)
        head = await ear.take_until(_HEAD_END)
        status = head.split(b" ", 2)[1].decode()
        if not status.startswith("2"):
            raise Denied(f"connect {status}")

    return handshake
