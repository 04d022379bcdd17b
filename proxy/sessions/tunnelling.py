"""Dials through a tunnel, near side: an opening in front of the first bytes, and all of it in the SYN.

The opening makes any first bytes safe to repeat: the far side delivers them once, however often they come
(`core.tunnel`). For that to hold, an attempt may follow another only while nothing of what the other one has brought
was used, and a connection is settled on once: its opening says that it is the last (``final``), or `COMMITTED` follows
it. Bytes behind those that the opening covers are sent on that connection only.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from contextlib import suppress
from time import time as wall_clock  # noqa: TID251  # the far side has no other clock in common with us

import trio

from proxy.core import replay, tunnel
from proxy.core.address import Endpoint, Target
from proxy.core.clusters import Tls, Via
from proxy.core.outcomes import Reason
from proxy.core.snapshot import Replay, SendHeader
from proxy.core.tunnel import COMMITTED, MOST_COVERED, Ticket
from proxy.net import acceptance, dial, sheath, sockopt
from proxy.net.sheath import BadTls, Sheath, Sheathed
from proxy.net.sniff import EarlyData
from proxy.net.upstream import DialFailed, Upstream
from proxy.sessions import introduction
from proxy.sessions.dialling import Dialling


class TunnelDialling(Dialling):
    """As `Dialling`, where the candidates are addresses of a far side."""

    __slots__ = (
        "_accepted",
        "_covered",
        "_destination",
        "_downstream",
        "_first",
        "_sheath",
        "_spoken",
        "_ticket",
    )
    _is_plain = False

    def go_through(self, destination: Target | None) -> None:
        """Say before the dial where the far side is to dial."""
        self._destination = destination
        self._accepted = self._spoken = False
        self._sheath: Sheath | None = None

    async def first_of(
        self,
        candidates: Sequence[Endpoint],
        early: EarlyData,
        downstream: socket.socket,
        begun: dial.Attempt | None,  # noqa: ARG002  # sessions through tunnels begin here
    ) -> Upstream:
        """As `Dialling.first_of`."""
        self._downstream = downstream
        off = self._cluster.proxy_header is SendHeader.OFF
        header = b"" if off else introduction.header(self._record, self._cluster, downstream)
        self._covered = (header + early.data)[:MOST_COVERED]
        covered = EarlyData(self._covered, ended=False, waited=early.waited)
        upstream = await self._first_of(candidates, covered, downstream, None)
        upstream.sent = len(self._covered) - len(header)
        return upstream

    async def _on_spare(self, endpoint: Endpoint, early: EarlyData) -> Upstream | None:  # noqa: ARG002
        """A far side keeps no connections that say nothing."""
        return None

    def send_syn(self, endpoint: Endpoint, early: EarlyData) -> dial.Attempt:
        """As `Dialling.send_syn`; every endpoint is told of a session of its own."""
        via = self._cluster.via
        assert via is not None
        self._ticket = self._new_ticket()
        self._first = (
            self._opening(1, final=False) + early.data if via.tls is None else self._hello(via, via.tls)
        )
        attempt = super().send_syn(endpoint, early._replace(data=self._first))
        self._spoken = self._spoken or (attempt.syn_bytes > 0 and via.tls is None)
        return attempt

    def ended(self, *, answered: bool, by_upstream: bool) -> None:
        """As `Dialling.ended`; that the far side has spoken is an answer."""
        super().ended(answered=answered or self._accepted, by_upstream=by_upstream)

    async def _one(
        self,
        endpoint: Endpoint,
        attempt: dial.Attempt,
        early: EarlyData,
        downstream: socket.socket,
        others: Sequence[Endpoint],
    ) -> Upstream:
        if not self._may_go_on():
            others, self._more = (
                (),
                None,
            )  # other machines, perhaps, which could not know what this one has heard
        return await super()._one(endpoint, attempt, early, downstream, others)

    async def _answering(
        self,
        upstream: Upstream,
        endpoint: Endpoint,
        early: EarlyData,  # noqa: ARG002  # what is said is the opening's to know
        downstream: socket.socket,
    ) -> Upstream:
        """Everything said, and the connection settled on."""
        if self._sheath is not None:
            hello = EarlyData(self._first, ended=False, waited=0.0)
            self._record.safe_bytes = len(self._first)  # it may come twice, whatever is behind it
            upstream = await super()._answering(upstream, endpoint, hello, downstream)
            await self._put_on(upstream, self._sheath)
        elif upstream.sent:
            upstream = await self._accepted_on(upstream)
        if not upstream.sent:
            await self._open_finally(upstream, endpoint)
        return upstream

    async def _accepted_on(self, upstream: Upstream) -> Upstream:
        """A fast open that has taken an opening with it: the far side takes it, or a plain connection comes back."""
        timeout, clock = self._cluster.connect.timeout, self._watch.clock
        standing, rest = self._standings.get(upstream.endpoint), self._first[upstream.sent :]
        await acceptance.say_all(upstream.sock, rest, timeout)
        possible = upstream.connected if rest else upstream.started
        hedge = self._plan.hedge
        patience = standing.overdue_after() if standing.answered else hedge
        doubt_at = possible + (timeout if patience is None or hedge is None else patience)
        chosen = await acceptance.accepted(upstream, self._watch, doubt_at, timeout)
        if chosen is upstream:
            with suppress(OSError):  # what comes next must not wait until this one byte is acknowledged
                sockopt.send_at_once(upstream.sock)
            await acceptance.say_all(upstream.sock, COMMITTED, timeout)
            self._accepted = standing.answered = True
            standing.learn_answer(clock() - possible - (standing.rtt or 0.0))
        else:
            chosen.sent = 0
        return chosen

    def _hello(self, via: Via, tls: Tls) -> bytes:
        try:
            self._sheath = Sheath(
                sheath.context(tls, far=False), tls.name or via.gateway.host.removesuffix(".")
            )
        except BadTls as bad:
            raise DialFailed(Reason.NOT_PERMITTED, why=str(bad)) from None
        return self._sheath.hello()

    async def _put_on(self, upstream: Upstream, tls: Sheath) -> None:
        """TLS around the connection; the opening comes behind it."""
        upstream.sock, hello = Sheathed(upstream.sock, tls), self._first[upstream.sent :]
        try:
            with trio.fail_after(self._cluster.connect.timeout):
                await upstream.sock.shake_hands(hello)
        except trio.TooSlowError:
            upstream.sock.close()
            raise DialFailed(Reason.CONNECT_TIMEOUT, why="no TLS handshake") from None
        except (BadTls, OSError) as bad:
            upstream.sock.close()
            raise DialFailed(Reason.NOT_PERMITTED, why=str(bad)) from None
        except BaseException:
            upstream.sock.close()
            raise
        upstream.sent = 0

    async def _open_finally(self, upstream: Upstream, endpoint: Endpoint) -> None:
        """A connection on which nothing has been said."""
        told = upstream.syn_bytes > 0 and self._sheath is None
        if told and upstream.endpoint != endpoint:
            self._ticket, told = self._new_ticket(), False
        self._spoken = True
        opening = self._opening(2 if told else 1, final=True)
        await acceptance.say_all(upstream.sock, opening + self._covered, self._cluster.connect.timeout)

    def _may_go_on(self) -> bool:
        """Whether another endpoint may be tried, after one that may have delivered what it was told."""
        return not self._spoken or self._is_harmless()

    def _is_harmless(self) -> bool:
        """Whether the first bytes may come twice even without us."""
        return self._cluster.replay is Replay.ANY or replay.safe_prefix(self._covered) == len(self._covered)

    def _safe_prefix(self, early: bytes) -> int:
        _, self._record.protocol = replay.classify(self._covered)
        self._record.safe_bytes = len(self._covered)
        return len(early)

    def _opening(self, attempt: int, *, final: bool) -> bytes:
        via = self._cluster.via
        assert via is not None
        return tunnel.seal(via.keys[0], self._ticket, attempt, self._covered, final=final)

    def _new_ticket(self) -> Ticket:
        destination, record = self._destination, self._record
        if destination is None or destination.host[:1] in {"/", "@"}:
            raise DialFailed(Reason.NO_ENDPOINT, why="a tunnel leads to host:port only")
        dialled = record.destination
        if record.source is not None and dialled is None:
            with suppress(OSError):
                dialled = sockopt.dialled_address(self._downstream)
        return Ticket(secrets.token_bytes(16), wall_clock(), destination, record.source, dialled)
