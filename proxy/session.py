"""One connection, from accepted to accounted for: the only place where the stages meet.

``run`` reads like the README: take the first bytes, decide how to dial, dial, relay, and say how it ended.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass

import trio

from proxy.core import replay
from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.core.fastopen import Open, Standing
from proxy.core.ledger import settle
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.patience import DEFAULT_CEILING, Patience
from proxy.core.record import SessionRecord
from proxy.core.snapshot import AUTO, Cluster, Listener, Replay, ServerFirst
from proxy.core.standings import Standings
from proxy.net import sockopt
from proxy.net.dial import Dial, DialFailed, Upstream, first_answer
from proxy.net.relay import Relay
from proxy.net.resolve import NoSuchHost, Resolver
from proxy.net.sniff import EarlyData, early_data
from proxy.net.watch import Watch, Watches


@dataclass(slots=True)
class Shared:
    """What the sessions of one worker share."""

    standings: Standings
    resolver: Resolver
    watches: Watches
    buffer: bytearray  # every relay reads into it, none keeps anything there
    unavailable: Callable[[int], None]  # told the errno when the kernel would not fast-open at all


class Session:
    """One downstream connection and what became of it."""

    __slots__ = (
        "_cluster",
        "_downstream",
        "_patience",
        "_shared",
        "_upstream",
        "_watch",
        "interruption",
        "listener",
        "record",
        "relay",
    )

    def __init__(
        self, downstream: socket.socket, client: str, listener: Listener, patience: Patience, shared: Shared, name: str
    ) -> None:
        self.listener = listener
        self.record = SessionRecord(name, listener.name, client, listener.cluster.name, trio.current_time())
        self.relay: Relay | None = None
        self.interruption: tuple[EndedBy, Reason] | None = None
        self._cluster: Cluster = listener.cluster
        self._downstream = downstream
        self._upstream: socket.socket | None = None
        self._patience = patience
        self._shared = shared
        self._watch: Watch | None = None

    async def run(self) -> SessionRecord:
        """Carry the connection to its end, whatever that is. Both sockets are closed afterwards."""
        record = self.record
        try:
            self._watch = self._shared.watches.take()
            endpoints = await self._endpoints()
            early = await self._sniff(endpoints[0])
            upstream = await self._dial(endpoints, early)
            await self._relay(upstream, early)
        except DialFailed as failure:
            record.ended_by = EndedBy.TIMEOUT if failure.reason is Reason.CONNECT_TIMEOUT else EndedBy.UPSTREAM
            record.reason, record.detail = failure.reason, str(failure)
            sockopt.reset_on_close(self._downstream)
        except NoSuchHost as failure:
            record.ended_by, record.reason, record.detail = EndedBy.PROXY, Reason.NO_SUCH_HOST, str(failure)
            sockopt.reset_on_close(self._downstream)
        except trio.ClosedResourceError:
            record.ended_by, record.reason = self.interruption or (EndedBy.PROXY, Reason.FAULT)
        except trio.Cancelled:
            record.ended_by, record.reason = EndedBy.OPERATOR, Reason.DRAIN
            self._reset_both()
            raise
        except OSError as error:
            self._failed(error)
        finally:
            self._finish()
        return record

    def interrupt(self, ended_by: EndedBy, reason: Reason) -> None:
        """End the session from outside: its time is up. Repeat until it is gone, it may be between two waits."""
        self.interruption = (ended_by, reason)
        if self._watch is not None:
            self._watch.interrupt()

    async def _endpoints(self) -> list[Endpoint]:
        self.record.during = Stage.ROUTE
        return await self._shared.resolver.candidates(self._cluster)

    async def _sniff(self, likely: Endpoint) -> EarlyData:
        """The client's first bytes, waited for no longer than they are likely to be worth."""
        record = self.record
        record.during = Stage.SNIFF
        if self.listener.fast_open and self._downstream.family != socket.AF_UNIX:
            record.client_syn_bytes = sockopt.client_syn_data(self._downstream).size
        early = await early_data(self._downstream, self._worth_waiting(self._shared.standings.get(likely)))
        record.waited = early.waited
        if early.data:
            record.early_bytes = len(early.data)
            record.client_first = True
            self._patience.client_spoke(early.waited)
        return early

    def _worth_waiting(self, standing: Standing) -> float:
        cluster = self._cluster
        configured = self.listener.timeouts.first_bytes
        ceiling = DEFAULT_CEILING if configured is AUTO else configured
        if (
            cluster.server_first is ServerFirst.YES
            or cluster.replay is Replay.NONE
            or not standing.worth_waiting(cluster, trio.current_time())
        ):
            return 0.0
        if cluster.server_first is ServerFirst.NO or configured is not AUTO:
            return ceiling
        return self._patience.wait(ceiling, standing.rtt)

    async def _dial(self, endpoints: list[Endpoint], early: EarlyData) -> Upstream:
        """The first endpoint that answers, of as many as may be tried."""
        self.record.during = Stage.DIAL
        safe = self._safe_prefix(early.data)
        failure: DialFailed | None = None
        for endpoint in endpoints[: 1 + self._cluster.connect.retries]:
            try:
                return await self._dial_one(endpoint, early.data, safe)
            except DialFailed as failed:
                failure = failed
                if failed.reason in {Reason.NO_DESCRIPTORS, Reason.NO_MEMORY}:
                    break  # our trouble, not the endpoint's
        raise failure or DialFailed(Reason.NO_ENDPOINT, 0)

    async def _dial_one(self, endpoint: Endpoint, early: bytes, safe: int) -> Upstream:
        record, cluster = self.record, self._cluster
        standing = self._shared.standings.get(endpoint)
        now = trio.current_time()
        record.endpoint, record.standing_before = endpoint, standing.state
        record.tried += 1
        assert self._watch is not None
        plan = standing.plan(cluster, safe, now)
        dial = Dial(
            endpoint, early, plan, cluster.keepalive, now + cluster.connect.timeout, self._watch,
            redial=plan.limit > 0 or standing.rtt is None,
        )  # fmt: skip
        upstream = await dial.connect()
        self._upstream = upstream.sock
        if upstream.syn_bytes and not upstream.plain and not standing.answered and safe == len(early):
            upstream.sent += self._send_rest(upstream, early)
            hedge = plan.hedge if plan.hedge is not None else cluster.connect.timeout
            upstream = await first_answer(upstream, dial, self._downstream.fileno(), upstream.started + hedge)
            self._upstream = upstream.sock
        self._learn(standing, upstream, plan.open)
        standing.learn(upstream.evidence, plan, trio.current_time(), upstream.syn_bytes)
        record.standing_after = standing.state
        if upstream.unavailable:
            self._shared.unavailable(upstream.unavailable)
        return upstream

    def _learn(self, standing: Standing, upstream: Upstream, opened: Open) -> None:
        """Write down how the dial went, and what it says of the way there."""
        record = self.record
        record.open = opened.value
        record.evidence = upstream.evidence
        record.syn_bytes = upstream.syn_bytes
        record.hedged, record.redialled = upstream.hedged, upstream.redialled
        record.dial_time = upstream.connected - upstream.started
        if upstream.syn_bytes and (upstream.plain or upstream.evidence is Evidence.SILENT):
            record.repeated_bytes = upstream.syn_bytes
        info = upstream.info
        if info is None:
            return
        record.retransmits = info.retransmits
        if not info.retransmits or upstream.evidence is Evidence.SYN_DATA_NOT_ACKED:
            standing.learn_rtt(info.rtt)
        record.rtt = standing.rtt

    def _safe_prefix(self, early: bytes) -> int:
        record, mode = self.record, self._cluster.replay
        if not early:
            return 0
        known, record.protocol = replay.classify(early)
        if mode is Replay.NONE:
            return 0
        # A client that put bytes into its own SYN has said that they may come twice.
        record.safe_bytes = len(early) if mode is Replay.ANY else max(known, min(record.client_syn_bytes, len(early)))
        return record.safe_bytes

    def _send_rest(self, upstream: Upstream, early: bytes) -> int:
        try:
            return upstream.sock.send(early[upstream.sent :], socket.MSG_NOSIGNAL) if upstream.sent < len(early) else 0
        except OSError:  # the relay will meet it again, and knows what to say
            return 0

    async def _relay(self, upstream: Upstream, early: EarlyData) -> None:
        record = self.record
        record.during = Stage.RELAY
        assert self._watch is not None
        relay = self.relay = Relay(
            self._downstream, upstream.sock, self._watch, self._shared.buffer, None if early.data else self._heard
        )
        relay.up.moved = upstream.sent
        await relay.run(early.data[upstream.sent :], downstream_ended=early.ended)
        record.ended_by = relay.ended_by or EndedBy.PROXY
        record.reason = relay.reason

    def _heard(self, *, downstream: bool) -> None:
        """The first word after the dial tells who speaks first here."""
        if downstream:
            self.record.client_first = True
            self._patience.client_spoke(trio.current_time() - self.record.began)
        else:
            self.record.server_first = True
            self._patience.server_spoke()

    def _failed(self, error: OSError) -> None:
        """An error outside dial and relay: the downstream broke while it was sniffed, or we lack something."""
        record = self.record
        code = error.errno or 0
        if code in {errno.EMFILE, errno.ENFILE}:
            record.ended_by, record.reason = EndedBy.PROXY, Reason.NO_DESCRIPTORS
        elif record.during in {Stage.ACCEPT, Stage.SNIFF}:
            record.ended_by, record.reason = EndedBy.DOWNSTREAM, Reason.RESET
        record.detail = sockopt.errno_name(code)
        self._reset_both()

    def _reset_both(self) -> None:
        sockopt.reset_on_close(self._downstream)
        if self._upstream is not None:
            sockopt.reset_on_close(self._upstream)

    def _finish(self) -> None:
        record, relay = self.record, self.relay
        self._downstream.close()
        if self._upstream is not None:
            self._upstream.close()
        if self._watch is not None:
            self._shared.watches.give_back(self._watch)
            self._watch = None
        record.duration = trio.current_time() - record.began
        if relay is None:
            return
        record.up_bytes, record.down_bytes = relay.up.moved, relay.down.moved
        if relay.first_byte is not None:
            record.first_byte = relay.first_byte - record.began
            if record.evidence is Evidence.SYN_DATA_ACKED and record.endpoint is not None:
                self._shared.standings.get(record.endpoint).answered = True
        elif not (record.client_first or record.server_first):
            self._patience.silent()
        settle(record)
