"""A small house with real nouns in it, and its admin on loopback, inside the test's own process."""

from __future__ import annotations

import http.client
import socket
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from proxy.admin import server, views
from proxy.admin.house import Census
from proxy.admin.portrait import session
from proxy.core.address import Endpoint
from proxy.core.availability import Outages
from proxy.core.evidence import Evidence
from proxy.core.ledger import Ledger
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.record import SessionRecord
from proxy.core.snapshot import Admin, Bind, Cluster, Listener, Mode, Snapshot
from proxy.core.standings import Standings
from proxy.core.warming import Warming
from proxy.net.accept import close_listener, listen
from proxy.service.listeners import admin_listener
from proxy.telemetry.counters import Counters
from proxy.telemetry.region import Region
from tests.serving import Recorder

TOKEN = "0123456789abcdef-token"  # of the tests
HERE = Endpoint("203.0.113.10", 443)


class SmallHouse:
    """What the supervisor offers, without one. Implements `proxy.admin.house.House`."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        cluster = Cluster("api", (HERE,))
        listener = Listener("web", (Bind("127.0.0.1", 8080),), Mode.FORWARD, cluster)
        self.snapshot = snapshot or Snapshot((listener,), {"api": cluster})
        self.standings, self.ledger = Standings(), Ledger()
        self.config_path: str | None = "/etc/tfo-proxy/config.yaml"
        self.log_level = "info"
        self.state: views.State = "ready"
        self.counters = Counters()
        self.records: list[SessionRecord] = []
        self.open: Counter[tuple[str, str, Endpoint | None]] = Counter()
        self.reloaded = 0
        self.next_reload = views.Reload(at=0.0, ok=True)
        self.last: views.Reload | None = None
        self.warmed: Warming | None = None
        self.began: float | None = None
        self.out: dict[str, Outages] = {}

    @property
    def regions(self) -> Sequence[Region]:
        return [self.counters.region]

    @property
    def since(self) -> float:
        return self.began if self.began is not None else trio.current_time()

    def places(self) -> Mapping[str, Sequence[views.Place]]:
        return {
            one.name: [views.Place(bind=str(one.binds[0]), fast_open=True)] for one in self.snapshot.listeners
        }

    def workers(self) -> Sequence[views.Worker]:
        import os

        return [
            views.Worker(
                number=0,
                pid=os.getpid(),
                state=self.state,
                open=self.open.total(),
                restarts=0,
                began=0.0,
                tasks=9,
            )
        ]

    def census(self) -> Census:
        return Census(self.open, [])

    def recent(self) -> Sequence[views.Session]:
        return [session(record, trio.current_time(), 1e9) for record in self.records]

    def health(self, endpoint: Endpoint) -> bool | None:
        return None

    def outages(self) -> Mapping[str, Outages]:
        return self.out

    def warming(self) -> Warming | None:
        return self.warmed

    def last_reload(self) -> views.Reload | None:
        return self.last

    def reloads(self) -> tuple[int, int]:
        return self.reloaded, 0

    def config_text(self) -> str:
        return "listeners:\n"

    async def reload(self) -> views.Reload:
        self.reloaded += 1
        self.last = self.next_reload
        return self.last

    def drain(self) -> None:
        self.state = "draining"

    def set_level(self, level: str) -> None:
        self.log_level = level

    def had(self, record: SessionRecord) -> None:
        """A session has ended."""
        self.counters.accepted(record.listener)
        self.counters.ended(record)
        self.ledger.add(record)
        self.records.append(record)
        if record.endpoint is not None:
            self.standings.get(record.endpoint)


def a_record(number: int = 1, **fields: object) -> SessionRecord:
    """A session that went well, but for ``fields``."""
    record = SessionRecord(number, "web", ("192.0.2.7", 4711), "api", 100.0)
    record.endpoint, record.evidence, record.open = HERE, Evidence.SYN_DATA_ACKED, "data"
    record.up_bytes, record.down_bytes, record.duration = 100, 1000, 0.25
    record.first_byte, record.rtt, record.saved, record.dial_time = 0.12, 0.1, 0.1, 0.1
    record.ended_by, record.during, record.reason = EndedBy.UPSTREAM, Stage.RELAY, Reason.CLOSED
    for name, value in fields.items():
        setattr(record, name, value)
    return record


@asynccontextmanager
async def admin_of(
    house: SmallHouse, admin: Admin | None = None, events: Recorder | None = None
) -> AsyncIterator[str]:
    """The admin of ``house`` at work; where it listens: ``127.0.0.1:port``, or a unix path."""
    admin = admin or Admin((Bind("127.0.0.1", 0),), TOKEN)
    house.snapshot = replace(house.snapshot, admin=admin)
    sock = listen(admin_listener(admin), admin.binds[0])
    name = sock.getsockname()
    give, take = trio.open_memory_channel[socket.socket](1)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                server.serve, house, take, lambda: house.snapshot.admin or admin, events or Recorder()
            )
            await give.send(sock)
            yield name if isinstance(name, str) else f"127.0.0.1:{name[1]}"
            nursery.cancel_scope.cancel()
    finally:
        close_listener(sock)


class Reply:
    """What came back."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


class _Unix(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


def ask_now(
    where: str,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Reply:
    """One request by the standard library's client."""
    kind = _Unix if Path(where).is_absolute() else http.client.HTTPConnection
    connection = kind(where, timeout=30)
    try:
        connection.request(method, path, body, {"Host": "localhost"} | dict(headers or {}))
        response = connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


async def ask(
    where: str,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Reply:
    """The same beside the server."""
    return await trio.to_thread.run_sync(partial(ask_now, where, path, method, headers, body))


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def raw(where: str, sent: bytes) -> bytes:
    """Everything that comes back for these bytes, until the other side closes or four seconds pass."""
    host, _, port = where.rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    received = b""
    async with stream:
        with trio.move_on_after(4):
            try:
                await stream.send_all(sent)
                while data := await stream.receive_some(65536):
                    received += data
            except trio.BrokenResourceError:
                pass
    return received
