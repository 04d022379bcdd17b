"""The whole box: a client's namespace, a server's namespace, the line between them, and what stands on it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from proxy.lab import middleboxes
from proxy.lab.capture import Capture, read_records
from proxy.lab.line import Line
from proxy.lab.namespaces import Namespace, ensure_allowed, write_setting
from proxy.lab.rtnetlink import rtnetlink
from proxy.lab.servers import Address, Behaviour, Server
from proxy.lab.wire import LINK, Kind, string

CLIENT, CLIENT6 = "10.77.1.1", "fd77:1::1"
# Everything in these networks is the server's (or the client's), without giving each address to a device.
SERVER_NETWORKS = ("10.77.2.0/24", "10.78.0.0/16", "fd77:2::/64")
CLIENT_NETWORKS = ("10.77.1.0/24", "fd77:1::/64")
UNROUTED, UNROUTED6 = "10.77.3.{}", "fd77:3::{:x}"
QUEUE = 10_000
SETTINGS = {
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv4.ip_unprivileged_port_start": 0,
    "net.ipv6.conf.default.addr_gen_mode": 1,
    "net.ipv6.conf.default.router_solicitations": 0,
    "net.ipv6.ip_nonlocal_bind": 1,
}


class Wan:
    """Two namespaces joined by a line of `rtt` seconds. Close it, or use it as a context manager.

    The client's namespace starts as the kernel makes it (Fast Open for clients only); the server's allows Fast
    Open listeners as well. `wire` forces TUN or veth. Raises LabUnavailableError where the system allows none.
    """

    def __init__(self, *, rtt: float = 0.1, mtu: int = 1500, wire: Kind | None = None) -> None:
        ensure_allowed()
        self.epoch = time.time() - time.monotonic()
        self._servers: list[Server] = []
        self._installed: list[tuple[str, dict[str, object], str]] = []
        self._upstreams = self._sources = self._unrouted = 0
        with contextlib.ExitStack() as undo:
            self.client = Namespace.create("client")
            undo.callback(self.client.close)
            self.server = Namespace.create("server")
            undo.callback(self.server.close)
            line_ends = string(self.client, self.server, wire)
            undo.callback(line_ends.close)
            self.wire = line_ends.kind
            self.ipv6 = Path("/proc/sys/net/ipv6").exists()
            self.client.call(self._configure, CLIENT, CLIENT6, CLIENT_NETWORKS, mtu)
            self.server.call(self._configure, "10.77.2.254", "fd77:2::ffff", SERVER_NETWORKS, mtu)
            self.server.sysctl("net.ipv4.tcp_fastopen", 3)
            self._line = Line(line_ends)
            undo.callback(self._line.close)
            self.set_rtt(rtt)
            line_ends.close()
            undo.pop_all()

    # The path

    @property
    def rtt(self) -> float:
        """The round trip of the line in seconds."""
        return self._up + self._down

    def set_rtt(self, rtt: float) -> None:
        """Half of it each way."""
        self.set_delays(rtt / 2, rtt / 2)

    def set_delays(self, up: float, down: float) -> None:
        """Seconds from client to server, and from server to client."""
        self._up, self._down = up, down
        self._line.set_delays(up, down)

    def install(self, name: str, *, host: str = "", **params: object) -> None:
        """Put another middlebox on the path (`middleboxes.MIDDLEBOXES`), behind those already there.

        With `host` it stands before that address of the server only, behind those for all packets.
        All of them forget what they have seen. Raises ValueError for an unknown name or parameter.
        """
        self.install_all([(name, params, host)])

    def install_all(self, boxes: Sequence[tuple[str, dict[str, object], str]]) -> None:
        """Many middleboxes in one go: name, parameters and `host`, as in `install`."""
        for name, params, _ in boxes:
            middleboxes.build(name, params)
        self._installed.extend(boxes)
        self._line.set_rules(self._installed)

    def clear(self) -> None:
        """Take all middleboxes off the path."""
        self._installed.clear()
        self._line.set_rules(())

    @contextlib.contextmanager
    def through(self, name: str, *, host: str = "", **params: object) -> Iterator[None]:
        """The path with one middlebox more, for a while; its arguments are those of `install`."""
        before = list(self._installed)
        self.install(name, host=host, **params)
        try:
            yield
        finally:
            self._installed = before
            self._line.set_rules(before)

    # What crossed it

    def capture(self) -> Capture:
        """Every packet that entered the line since it was made, or since `forget`."""
        return read_records(self._line.records(), self.epoch)

    def forget(self) -> None:
        """Begin the capture anew."""
        self._line.forget()

    def wait_for(self, condition: Callable[[Capture], bool], timeout: float = 5.0) -> Capture:
        """Wait until the capture fulfils the condition, and return it. Blocks. Raises TimeoutError with the text."""
        deadline = time.monotonic() + timeout
        while not condition(seen := self.capture()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not in the capture after {timeout} s:\n{seen.text()}")
            time.sleep(0.005)
        return seen

    # Who stands at its ends

    def fresh_address(self, version: int = 4) -> str:
        """An address of the server's that this lab has not handed out: no cookie, no RTT, no standing."""
        self._upstreams += 1
        number = self._upstreams
        if version == 6:
            return f"fd77:2::{number:x}"
        return f"10.77.2.{number}" if number < 254 else f"10.78.{number >> 8}.{number & 255}"

    def fresh_source(self, version: int = 4) -> str:
        """Another address of the client's, to bind before dialling."""
        self._sources += 1
        return f"fd77:1::{self._sources + 1:x}" if version == 6 else f"10.77.1.{self._sources + 1}"

    def unrouted_address(self, version: int = 4) -> str:
        """An address behind the line where nobody is: packets to it vanish."""
        self._unrouted += 1
        return (UNROUTED6 if version == 6 else UNROUTED).format(self._unrouted)

    def serve(  # noqa: PLR0913  (all but the first have good defaults)
        self,
        behaviour: Behaviour,
        *,
        host: str | None = None,
        port: int = 80,
        version: int = 4,
        fast_open: int | None = 256,
        key: bytes | None = None,
        defer_accept: int = 0,
    ) -> Server:
        """Start a server in the server's namespace, on a fresh address unless told.

        It is closed with the Wan if not before.
        """
        address: Address = (host or self.fresh_address(version), port)
        server = Server(
            self.server, address, behaviour, fast_open=fast_open, key=key, defer_accept=defer_accept
        )
        self._servers.append(server)
        return server

    def close(self) -> None:
        """Close the servers, the line and the namespaces."""
        for server in self._servers:
            server.close()
        self._line.close()
        self.client.close()
        self.server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _configure(self, address: str, address6: str, networks: tuple[str, ...], mtu: int) -> None:
        for name, value in SETTINGS.items():
            if self.ipv6 or ".ipv6." not in name:
                write_setting(name, value)
        with rtnetlink() as netlink:
            netlink.bring_up("lo")
            netlink.bring_up(LINK, mtu=mtu, queue=QUEUE, noarp=True)
            netlink.add_address(LINK, address, 32)
            netlink.add_route("0.0.0.0/0", LINK, source=address)
            if self.ipv6:
                netlink.add_address(LINK, address6, 128)
                netlink.add_route("::/0", LINK, source=address6)
            for network in networks:
                if self.ipv6 or ":" not in network:
                    netlink.add_local_network(network)
