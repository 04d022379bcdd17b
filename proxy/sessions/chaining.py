"""Dials through another proxy (``via``): its handshake and the client's first bytes in the SYN, where it takes that.

What may be said twice: a request for a connection is one more dial if it is repeated, and no byte of the client's,
so the handshake counts as safe unless ``replay: none``; what stands behind it is judged as always.

Not every proxy reads on where it left off. So the handshake is said at once first, with first bytes behind it only if
all of them are safe to repeat, until the gateway has been seen to answer those. One that breaks off, or stays silent,
is asked again on a new connection, step by step, and so from then on for a while. Behind a CONNECT only a TLS hello is
sent before the answer (`core.gateway.may_follow`).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum

import trio

from proxy.core import gateway, replay
from proxy.core.address import Endpoint, Target
from proxy.core.gateway import Declined, Step
from proxy.core.outcomes import Reason
from proxy.core.reader import Malformed, Reading
from proxy.core.snapshot import Replay
from proxy.net import dial, sockopt
from proxy.net.sniff import EarlyData, wait_for_either
from proxy.net.upstream import DialFailed, Upstream
from proxy.sessions import introduction
from proxy.sessions.dialling import Dialling
from proxy.sessions.reception import VIA

STEPWISE_FOR = 600.0
_STEP_WITHIN = (
    0.5  # the next answer of one that has answered a step, and may have thrown away what came behind it
)
_ANSWER_WITHIN = 1.0  # a gateway that has not yet been seen to pass on what came behind its handshake


class Manner(Enum):
    """What a gateway is known to take."""

    UNKNOWN = "unknown"
    ALL = "all"  # bytes behind the handshake reach the other side
    STEPWISE = "stepwise"


class Gateways:
    """What is known of each; forgotten when the process ends."""

    def __init__(self) -> None:
        self._stepwise: dict[Endpoint, float] = {}
        self._all: set[Endpoint] = set()

    def manner(self, endpoint: Endpoint, now: float) -> Manner:
        """How to talk to it now."""
        if now < self._stepwise.get(endpoint, 0.0):
            return Manner.STEPWISE
        return Manner.ALL if endpoint in self._all else Manner.UNKNOWN

    def takes_all(self, endpoint: Endpoint) -> None:
        """It has been seen to."""
        self._all.add(endpoint)

    def stumbles(self, endpoint: Endpoint, now: float) -> None:
        """It has to be asked step by step."""
        self._all.discard(endpoint)
        self._stepwise[endpoint] = now + STEPWISE_FOR


class _Stumbled(Exception):
    """The gateway did not make anything of what was said at once."""


class _Unknown(_Stumbled):
    """There is no time to find out whether it does."""


class ChainedDialling(Dialling):
    """As `Dialling`, where the candidates are gateways."""

    __slots__ = ("_destination", "_gateways", "came_through")
    _is_plain = False

    def go_through(self, gateways: Gateways, destination: Target | None) -> None:
        """Say before the dial what the gateway is to be asked for."""
        self._gateways, self._destination = gateways, destination
        self.came_through = b"1.1 " + VIA  # the proxies before the gateway, as a `Via` field names them

    async def first_of(
        self,
        candidates: Sequence[Endpoint],
        early: EarlyData,
        downstream: socket.socket,
        begun: dial.Attempt | None,  # noqa: ARG002  # sessions through gateways begin here
    ) -> Upstream:
        """As `Dialling.first_of`."""
        via = self._cluster.via
        if via is None or self._destination is None:
            raise DialFailed(Reason.NO_ENDPOINT)
        said = gateway.steps(via, self._destination, self.came_through)
        header = introduction.header(self._record, self._cluster, downstream) if self._has_header() else b""
        early = early._replace(data=header + early.data)
        try:
            upstream = await self._through(candidates, said, early, downstream)
        except Declined as declined:
            raise DialFailed(declined.reason, why=str(declined)) from declined
        if upstream.sent < len(header):
            upstream.sent += _say(upstream.sock, early.data[upstream.sent : len(header)])
        upstream.sent = max(upstream.sent - len(header), 0)
        return upstream

    async def _through(
        self,
        candidates: Sequence[Endpoint],
        said: Sequence[Step],
        early: EarlyData,
        downstream: socket.socket,
    ) -> Upstream:
        gateways, clock = self._gateways, self._watch.clock
        known = gateways.manner(candidates[0], clock())
        if known is not Manner.STEPWISE:
            via, data = self._cluster.via, early.data
            assert via is not None
            at_once = gateway.may_follow(via, data) and (known is Manner.ALL or self._is_all_safe(data))
            behind = early if at_once else early._replace(data=b"")
            try:
                return await self._at_once(candidates, said, behind, downstream, known)
            except _Unknown:
                pass
            except _Stumbled:
                gateways.stumbles(self._record.endpoint or candidates[0], clock())
                if not self._is_all_safe(behind.data):
                    raise DialFailed(Reason.RESET, why="the gateway broke off") from None
        return await self._step_by_step(candidates, said, downstream)

    async def _at_once(
        self,
        candidates: Sequence[Endpoint],
        said: Sequence[Step],
        early: EarlyData,
        downstream: socket.socket,
        known: Manner,
    ) -> Upstream:
        self._preface = b"".join(step.say for step in said)
        whole = early._replace(data=self._preface + early.data)
        upstream = await self._first_of(candidates, whole, downstream, None)
        # A gateway shows that it reads on only where it could have read both at once.
        together = not 0 < upstream.sent <= len(self._preface)
        upstream.sent += _say(upstream.sock, whole.data[upstream.sent :])
        upstream = introduction.completed(upstream, self._preface)
        try:
            with trio.move_on_after(self._cluster.connect.timeout) as limit:
                for number, step in enumerate(said):
                    if number and known is Manner.UNKNOWN:
                        limit.deadline = min(limit.deadline, trio.current_time() + _STEP_WITHIN)
                    await _hear(upstream.sock, step)
                if early.data and known is Manner.UNKNOWN:
                    await self._await_answer(upstream, downstream)
                    if together:
                        self._gateways.takes_all(upstream.endpoint)
            if limit.cancelled_caught:
                raise _Stumbled
        except (Malformed, OSError):
            upstream.sock.close()
            raise _Stumbled from None
        except BaseException:
            sockopt.reset_on_close(upstream.sock)
            upstream.sock.close()
            raise
        return upstream

    async def _await_answer(self, upstream: Upstream, downstream: socket.socket) -> None:
        """All of the first bytes may be repeated, so it can be found out whether the gateway passes them on.

        A client that says more does not wait for that: it is served step by step. Its end is passed on.
        """
        with trio.move_on_after(max(_ANSWER_WITHIN, 4 * (self._record.rtt or 0.0))):
            await wait_for_either(downstream, upstream.sock)
            if sockopt.unread(downstream) and not sockopt.unread(upstream.sock):
                raise _Unknown
            if not sockopt.unread(upstream.sock):
                with suppress(OSError):
                    upstream.sock.shutdown(socket.SHUT_WR)
                await trio.lowlevel.wait_readable(upstream.sock)
            return
        raise _Stumbled

    async def _step_by_step(
        self, candidates: Sequence[Endpoint], said: Sequence[Step], downstream: socket.socket
    ) -> Upstream:
        self._preface = said[0].say
        whole = EarlyData(self._preface, ended=False, waited=0.0)
        upstream = introduction.completed(
            await self._first_of(candidates, whole, downstream, None), self._preface
        )
        try:
            with trio.move_on_after(self._cluster.connect.timeout) as limit:
                for number, step in enumerate(said):
                    if number and _say(upstream.sock, step.say) < len(step.say):
                        raise DialFailed(Reason.RESET, why="the gateway takes no more")
                    await _hear(upstream.sock, step)
            if limit.cancelled_caught:
                raise DialFailed(Reason.CONNECT_TIMEOUT, why="the gateway does not answer")
        except (Malformed, OSError) as error:
            upstream.sock.close()
            raise DialFailed(Reason.UNREACHABLE, why=str(error) or "the gateway broke off") from error
        except BaseException:
            sockopt.reset_on_close(upstream.sock)
            upstream.sock.close()
            raise
        return upstream

    def _has_header(self) -> bool:
        return self._cluster.proxy_header != "off"

    def _is_all_safe(self, data: bytes) -> bool:
        if self._cluster.replay is Replay.NONE:
            return not data
        return self._cluster.replay is Replay.ANY or replay.classify(data)[0] == len(data)


async def _hear(sock: socket.socket, step: Step) -> None:
    """Read one answer and not a byte more; raises what its parser does, and OSError."""
    reading = Reading(step.hear, gateway.MOST_REPLY)
    while True:
        try:
            seen = sock.recv(gateway.MOST_REPLY, socket.MSG_PEEK)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)
            continue
        if not seen:
            raise Malformed("the gateway hung up")
        held = len(reading.reader.data)
        parsed = reading.feed(seen)
        taken = len(seen) if parsed is None else parsed.consumed - held
        sock.recv(taken)
        if parsed is not None:
            return


def _say(sock: socket.socket, data: bytes) -> int:
    with suppress(OSError):  # whoever reads next meets it
        return sock.send(data, socket.MSG_NOSIGNAL) if data else 0
    return 0
