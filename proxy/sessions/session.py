"""One connection, from accepted to accounted for: the only place where the stages meet.

Read `Session.run`: take the first bytes, decide how to dial, dial, relay. `Session.begin` goes the same way as far as
it can without waiting, which on a short path is all of it: a session has a task only while it waits for first bytes,
for a name or for a handshake. The relay needs none, and the end of it is an event like any other (`_relayed`).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import trio

from proxy.core import loops
from proxy.core.address import Endpoint
from proxy.core.clusters import Balance, SendHeader
from proxy.core.errnos import Call, meaning
from proxy.core.ledger import settle
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.patience import Patience
from proxy.core.record import Peer, SessionRecord
from proxy.core.request import Refused
from proxy.core.snapshot import Cluster, Listener
from proxy.net import sockopt
from proxy.net.dial import Attempt, under_way
from proxy.net.exchange import Exchange
from proxy.net.relay import Relay
from proxy.net.sniff import (
    MOST_EARLY_DATA,
    NOTHING_YET,
    EarlyData,
    early_data,
    early_data_now,
    has_something,
    wait_for_either,
)
from proxy.net.upstream import DialFailed, Near, Upstream
from proxy.net.watch import EDGE, FAULT
from proxy.sessions.dialling import Dialling, dial_near
from proxy.sessions.shared import Shared

# Bound once: asking an enum for a member costs as much as a call (Python 3.11).
_LOOKS = 10.0  # seconds
_SNIFF, _RELAY = Stage.SNIFF, Stage.RELAY

_LONGEST_TEST = 30.0  # seconds for which a test for loops waits for the client's first bytes


class ClientGone(Exception):
    """The client has reset its connection before there was one to the upstream."""


class Session:
    """One downstream connection and what became of it."""

    is_idle = False  # it is kept open without anything to account for

    __slots__ = (
        "_accounted", "_cluster", "_dials", "_downstream", "_guarded", "_interruption", "_looked_after", "_only",
        "_over", "_part", "_patience", "_shared", "_since", "_tested", "_upstream", "listener", "record", "relay",
    )  # fmt: skip

    def __init__(
        self,
        downstream: socket.socket,
        peer: Peer,
        listener: Listener,
        patience: Patience,
        shared: Shared[Session],
        number: int,
    ) -> None:
        cluster = listener.cluster
        self.listener = listener
        self.record = SessionRecord(number, listener.name, peer, cluster.name, shared.watch.clock())
        self.relay: Relay | Exchange | None = None
        self._interruption: tuple[EndedBy, Reason] | None = None
        self._since = self.record.began  # when the client could first have said something for the upstream
        self._cluster: Cluster = cluster
        self._only: Sequence[Endpoint] = cluster.only
        self._downstream = downstream
        self._upstream: socket.socket | None = None
        self._patience = patience
        self._shared = shared
        self._dials: Dialling | None = None
        self._part: int | None = None  # of its first bytes, said before the others; None: not yet counted
        self._tested = False  # it is a test for loops
        self._guarded = False  # it is noticed when the client resets its connection
        self._accounted = self._looked_after = False
        self._over = False  # both connections are closed, and it may have to be accounted for yet

    @property
    def _dialling(self) -> Dialling:
        """Made when it is wanted: an endpoint that is near is dialled without one."""
        if self._dials is None:
            self._dials = self._dial_to(self._cluster)
        return self._dials

    def _dial_to(self, cluster: Cluster) -> Dialling:
        dialling = self._shared.dialling(self.record, cluster)
        dialling.hear_more = self._hear_more
        return dialling

    def _hear_more(self, behind: bytes) -> bytes:
        """Take what the client says before the upstream has answered, where that may be said twice; else nothing.

        ``behind``: its bytes before these. A session that is tested for a loop, or may be one, keeps to one connection.
        """
        if self._tested or self._shared.loops.alert or len(behind) >= MOST_EARLY_DATA:
            return b""
        sock = self._downstream
        try:
            said = sock.recv(MOST_EARLY_DATA - len(behind), socket.MSG_PEEK)
            if not said or not self._dialling.may_repeat(behind + said):
                return b""
            said = sock.recv(len(said))
        except OSError:  # the relay will meet it again, and knows what to say
            return b""
        if not behind:
            self._heard(downstream=True)
        return said

    def begin(self, nursery: trio.Nursery) -> None:
        """Go as far as possible without waiting, and leave the rest, if there is any, to a task."""
        try:
            self._set_out(self._only or self._candidates_now(), nursery)
        except Exception as error:  # noqa: BLE001  # told apart in _failed
            self._failed(error)

    def _set_out(self, only: Sequence[Endpoint], nursery: trio.Nursery) -> None:
        """The same, now that it is known whom to dial, if it is."""
        self._only = only
        if only and self._begin_near(only[0], nursery):
            return
        early = self._sniff_now(only[0]) if only else None
        if early is None or self._count(early) or self._cluster.preconnect:
            nursery.start_soon(self.run, early)
            return
        try:
            attempt = self._dialling.send_syn(only[0], early)
            upstream = self._dialling.at_once(only[0], attempt, early)
        except DialFailed as failed:
            self._go_on(failed, early, nursery)
            return
        if upstream is None:
            nursery.start_soon(self.run, early, attempt)
        else:
            self._relay(upstream, early)

    def _candidates_now(self) -> Sequence[Endpoint]:
        """Whom to dial, where that is known already and nothing stands in front of the client's bytes."""
        cluster = self._cluster
        if not cluster.endpoints or cluster.via is not None or cluster.proxy_header is not SendHeader.OFF:
            return ()
        client = self.record.source_host if cluster.balance is Balance.SOURCE_HASH else ""
        return self._shared.pools.candidates_now(cluster, client)

    def _begin_near(self, endpoint: Endpoint, nursery: trio.Nursery) -> bool:
        """To an upstream on this host: no round trip to save, and no thought spent on one."""
        shared, cluster = self._shared, self._cluster
        standing = shared.standings.get(endpoint)
        early = self._words_near() if standing.is_near(cluster) and not cluster.preconnect else None
        if early is None:
            return False
        if self._count(early):
            nursery.start_soon(self.run, early)
            return True
        try:
            dialled = dial_near(self.record, cluster, endpoint, standing, early.data, shared.watch.clock)
        except DialFailed as failed:
            self._go_on(failed, early, nursery)
            return True
        if dialled.connected:
            self._relay(dialled, early)
        else:
            nursery.start_soon(self.run, early, under_way(dialled, self.record.dials))
        return True

    def _words_near(self) -> EarlyData | None:
        """What the client has said for an endpoint that is near; None where that needs a second thought."""
        record = self.record
        record.during = _SNIFF
        early = early_data_now(self._downstream)
        if not early.data:
            return None
        if self._shared.takes_syn_data:
            self._shared.look_at_syn(record, self.listener, self._downstream)
        record.early_bytes, record.client_first = len(early.data), True
        return early

    def _go_on(self, failed: DialFailed, early: EarlyData, nursery: trio.Nursery) -> None:
        """With the next candidate; raises ``failed`` where there is none."""
        first, *rest = self._only
        if not self._dialling.blame(first, failed) or not rest:
            raise failed
        self._only = rest
        nursery.start_soon(self.run, early)

    async def run(self, early: EarlyData | None = None, attempt: Attempt | None = None) -> None:
        """The same way, waiting where there is something to wait for, from where `begin` has got to."""
        try:
            with trio.CancelScope() as scope:
                self._guard(scope)
                await self._pass(early, attempt)
            if scope.cancelled_caught:
                raise ClientGone
            if self._dials is not None and self._dials.late is not None:
                await self._dials.hear_late()
                self._account_late()
                await self._dials.hear_later()
        except Exception as error:  # noqa: BLE001  # told apart in _failed
            self._failed(error)
            if self._dials is not None:
                self._dials.drop_late()  # nothing waits for its answer any more
            self._account_late()
        except BaseException:  # trio.Cancelled, or several of them where it waited for several things
            self.interrupt(EndedBy.OPERATOR, Reason.DRAIN)
            raise

    def _guard(self, scope: trio.CancelScope) -> None:
        """Cancel ``scope`` when the client resets its connection, whatever is waited for; until the relay watches it.

        Its RST is passed on at once, and nothing is dialled for it any more.
        """
        fd = self._downstream.fileno()
        self._shared.watch.add(fd, EDGE, lambda events: scope.cancel() if events & FAULT else None)
        self._guarded = True

    def _unguard(self) -> None:
        if self._guarded:
            self._guarded = False
            self._shared.watch.let_go(self._downstream.fileno())

    async def _pass(self, early: EarlyData | None, attempt: Attempt | None) -> None:
        candidates = self._only or await self._resolve()
        if early is None:
            early = await self._sniff(candidates[0])
        if self._count(early):
            await self._test(candidates, early)
        else:
            self._relay(await self._dialling.first_of(candidates, early, self._downstream, attempt), early)

    async def _test(self, candidates: Sequence[Endpoint], early: EarlyData) -> None:
        """Dial, and say the client's first bytes in two parts: what comes back to us so is known (`core.loops`)."""
        part = self._part or 0
        early_part = early._replace(data=early.data[:part], ended=early.ended and not early.data)
        upstream = await self._dialling.first_of(candidates, early_part, self._downstream, None)
        sock = self._upstream = upstream.sock
        if not early.data and not early.ended:
            self._tell()
            with trio.move_on_after(_LONGEST_TEST):
                await wait_for_either(self._downstream, sock)
            if not has_something(sock):
                self.record.during = _SNIFF
                early = early_data_now(self._downstream)
            if len(early.data) > 1:
                part = self._test_by(early.data)
        if early.data:
            try:
                upstream.sent += sock.send(early.data[upstream.sent : part], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                pass
            except OSError:
                self.interrupt(EndedBy.UPSTREAM, Reason.RESET)
                return
            await trio.sleep(loops.PAUSE)
        self._relay(upstream, early)

    def _test_by(self, first: bytes) -> int:
        """Test it by what its client has said after the dial; how much of that to send first. Raises `Refused`."""
        table, listener = self._shared.loops, self.listener.name
        try:
            table.check(listener, self._destination, first, self._shared.watch.clock())
        except loops.Found as found:
            raise Refused(Reason.LOOP, str(found)) from None
        self._heard(downstream=True)
        return table.test(self, listener, self._destination, first)

    def _tell(self) -> None:
        """The upstream is connected: tell a client that waits for that."""

    @property
    def _destination(self) -> object:
        return self.record.authority or self.record.cluster

    def _count(self, early: EarlyData) -> bool:
        """Count it among the open sessions; whether it is to be tested for being a loop. Raises `Refused`."""
        if self._part is not None:
            return self._tested
        data, shared, listener = early.data, self._shared, self.listener
        self._part = len(data)
        try:
            if len(data) > 1:
                now = shared.watch.clock()
                self._part = shared.loops.enter(self, listener.name, self._destination, data, now)
                self._tested = self._part < len(data)
            else:
                source, most = self.record.source, listener.per_destination
                self._tested = shared.loops.enter_silent(self, listener.name, self._destination, source, most)
        except loops.Found as found:
            raise Refused(Reason.LOOP, str(found)) from None
        return self._tested

    @property
    def is_unanswered(self) -> bool:
        """As `proxy.core.loops.Counted`."""
        return self.relay is None or self.relay.first_byte is None

    @property
    def is_silent(self) -> bool:
        """As `proxy.core.loops.Counted`."""
        return self.relay is None or (self.relay.first_byte is None and not self.relay.up.moved)

    def keep_alive(self) -> None:
        """This session lasts: have its upstream watched for vanishing. Short ones are spared the system calls."""
        upstream, keepalive = self._upstream, self._cluster.keepalive
        if upstream is not None and keepalive is not None and upstream.family != socket.AF_UNIX:
            with suppress(OSError):
                sockopt.keep_alive(upstream, keepalive)

    def look_after(self, now: float) -> None:
        """Once a second, for the first seconds: see whether what follows a fast open reaches the server."""
        relay, dials, upstream = self.relay, self._dials, self._upstream
        if relay is None or dials is None or upstream is None or self._looked_after:
            return
        if not relay.down.held():  # else the server may be the one that waits
            sent = relay.up.moved + relay.up.finished  # a FIN counts
            done = dials.look_after(upstream, sent)
            self._looked_after = done or now - self.record.began > _LOOKS

    def interrupt(self, ended_by: EndedBy, reason: Reason) -> None:
        """End it from outside. A session that is not relaying yet has clocks of its own."""
        if self._over:
            self._account_late()
            return
        self._interruption = (ended_by, reason)
        if self.relay is not None:
            self.relay.stop()
        else:
            self.record.ended_by, self.record.reason = self._interruption
            self._reset_both()
            self._finish()

    async def _resolve(self) -> Sequence[Endpoint]:
        self.record.during = Stage.ROUTE
        return await self._shared.pools.candidates(self._cluster, self.record.source_host)

    def _sniff_now(self, likely: Endpoint) -> EarlyData | None:
        """What the client has said already; None where it is worth waiting for more than nothing."""
        record, shared = self.record, self._shared
        record.during = _SNIFF
        if shared.takes_syn_data:
            shared.look_at_syn(record, self.listener, self._downstream)
        early = early_data_now(self._downstream)
        waits = early is NOTHING_YET and self._worth_waiting(likely) > 0
        return None if waits else self._sniffed(early)

    async def _sniff(self, likely: Endpoint) -> EarlyData:
        """The client's first bytes, waited for no longer than they are likely to be worth."""
        early = self._sniff_now(likely)
        if early is None:
            early = await early_data(self._downstream, self._worth_waiting(likely))
            self.record.waited = early.waited
            self._sniffed(early)
        return early

    def _sniffed(self, early: EarlyData) -> EarlyData:
        if early.data:
            self.record.early_bytes = len(early.data)
            self.record.client_first = True
            self._patience.client_spoke(early.waited)
        return early

    def _worth_waiting(self, likely: Endpoint) -> float:
        cluster, shared = self._cluster, self._shared
        standing = shared.standings.get(likely)
        spare_waits = cluster.preconnect != 0 and shared.spares.want_bytes(cluster, likely)
        if not (spare_waits or standing.worth_waiting(cluster, shared.watch.clock())):
            return 0.0
        return self._patience.wait_for(cluster, self.listener.timeouts.first_bytes, standing.rtt)

    def _connected(self, upstream: Upstream | Near) -> None:
        """The dial is over: ``upstream`` is this session's from now on."""
        self._upstream = upstream.sock
        self.record.during = _RELAY
        self._guarded = False  # the relay takes the descriptor over
        if self._dials is not None or (self._cluster.endpoints and not self._cluster.only):
            self._dialling.connected(upstream.endpoint)

    def _relay(self, upstream: Upstream | Near, early: EarlyData) -> None:
        shared, data, sent, sock = self._shared, early.data + upstream.heard, upstream.sent, upstream.sock
        self._connected(upstream)
        heard = None if data else self._heard
        relay = self.relay = Relay(self._downstream, sock, shared.watch, shared.buffer, self._relayed, heard)
        if not early.data and sock.family != socket.AF_UNIX:
            shared.loops.dialled(self, partial(sockopt.dialled_address, sock))
        relay.up.moved = sent
        if self._dials is not None and self._dials.has_preface:
            relay.up.follows_others = True
        relay.start(data[sent:], early.ended)

    def _relayed(self) -> None:
        """The relay has ended, by itself or because it was stopped."""
        record, relay = self.record, self.relay
        assert relay is not None
        if self._interruption is not None:
            record.ended_by, record.reason = self._interruption
            self._reset_both()  # a FIN would make what was cut off look complete
        elif relay.fault is not None:
            self._failed(relay.fault)
            return
        else:
            record.ended_by, record.reason = relay.ended_by or EndedBy.PROXY, relay.reason
            if (survivor := relay.survivor()) is not None:
                self._shared.reset(survivor)
        self._finish()

    def _heard(self, downstream: bool) -> None:
        """The first word after the dial tells who speaks first here."""
        record = self.record
        if self._dials is not None:
            self._dials.first_spoke(downstream=downstream)
        if downstream:
            if self._shared.loops.alert and self._is_loop():
                return
            record.client_first = True
            record.client_delay = self._shared.watch.clock() - self._since
            self._patience.client_spoke(record.client_delay, self._silent_until())
        else:
            record.server_first = True
            self._patience.server_spoke()

    def _is_loop(self) -> bool:
        """Whether the first bytes after the dial are known to come back to us; then the session is ended."""
        try:
            first = self._downstream.recv(MOST_EARLY_DATA, socket.MSG_PEEK)
            now = self._shared.watch.clock()
            self._shared.loops.check(self.listener.name, self._destination, first, now)
        except OSError:
            return False
        except loops.Found as found:
            self.record.detail = str(found)
            self.interrupt(EndedBy.PROXY, Reason.LOOP)
            return True
        return False

    def _silent_until(self) -> float | None:
        """When it was last known that the client had not spoken; None: it has been heard since it could."""
        return self.record.waited

    def _failed(self, error: Exception) -> None:
        """It ends here, because of this."""
        try:
            self._explain(error)
        except Exception as fault:  # noqa: BLE001  # it ends nevertheless, and nobody else does
            self._shared.fault(self.record, fault)
        self._reset_both()
        self._finish()

    def _explain(self, error: Exception) -> None:
        """Write down why it ends."""
        if isinstance(error, ClientGone):
            code = sockopt.pending_error(self._downstream)
            self.record.ended_by = EndedBy.DOWNSTREAM
            self.record.reason = meaning(Call.RELAY, code) if code else Reason.RESET
            self.record.detail = sockopt.errno_name(code) if code else ""
        else:
            self._shared.explain(self.record, error)

    def _reset_both(self) -> None:
        sockopt.reset_on_close(self._downstream)
        if self._upstream is not None:
            sockopt.reset_on_close(self._upstream)

    def _finish(self) -> None:
        record, relay, dials, shared = self.record, self.relay, self._dials, self._shared
        if relay is not None:
            record.up_bytes, record.down_bytes = relay.up.moved, relay.down.moved
            first_byte = relay.first_byte
            if first_byte is not None:
                record.first_byte = first_byte - record.began
            elif not (record.client_first or record.server_first):
                self._patience.silent()
            if dials is not None:
                by_upstream = relay.ended_by is EndedBy.UPSTREAM
                dials.ended(answered=first_byte is not None, by_upstream=by_upstream)
            relay.drop()
            self.relay = None  # it knows us as we know it: nothing for the garbage collector
        shared.loops.leave(self)
        self._unguard()
        self._close_downstream()
        if self._upstream is not None:
            self._upstream.close()
            if dials is not None:
                dials.disconnected()
        if relay is None and dials is not None:
            dials.drop_late()
        record.duration = shared.watch.clock() - record.began
        self._over = True
        if relay is None or dials is None or not dials.undecided:
            self._account()

    def _account_late(self) -> None:
        """Account for a session that was over before it was known whether its silent connection is answered."""
        if self._over and not self._accounted:
            self._account()

    def _account(self) -> None:
        self._accounted = True
        settle(self.record)
        self._shared.ended(self)

    def _close_downstream(self) -> None:
        self._downstream.close()
