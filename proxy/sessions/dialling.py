"""How a session comes to its upstream: what may ride in the SYN, how to dial, and what the dial has shown."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from proxy.core import replay
from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence, Progress
from proxy.core.families import interleaved
from proxy.core.fastopen import PLAIN_PLAN, Open, Plan, Standing
from proxy.core.outcomes import UPSTREAM_FAILURES, Reason, Stage
from proxy.core.record import Dial, SessionRecord
from proxy.core.snapshot import Cluster, Replay, SendHeader
from proxy.core.standings import Standings
from proxy.net import dial, silence, sockopt
from proxy.net.resolve import Early, NoSuchHost
from proxy.net.sniff import EarlyData
from proxy.net.upstream import DialFailed, Near, Upstream
from proxy.net.watch import Watch
from proxy.sessions import doubt, introduction
from proxy.sessions.pools import Pool
from proxy.sessions.spares import Spares, alive

_SILENT_FOR = 0.9  # seconds without an answer to a SYN, after which it counts as lost

_WITH_COOKIE = frozenset({Evidence.SYN_DATA_ACKED, Evidence.EMPTY_OPEN})
_LATER = 0.25  # seconds, for what a busy machine adds
_HEARS_ON = 5.0  # seconds for which an answer may come after a connection was taken for silent

# Bound once: asking an enum for a member costs as much as a call (Python 3.11).
_RELAY = Stage.RELAY
_DIAL, _OPEN_PLAIN, _PLAIN, _NONE, _ANY = Stage.DIAL, Open.PLAIN, Evidence.PLAIN, Replay.NONE, Replay.ANY


def dial_near(
    record: SessionRecord,
    cluster: Cluster,
    endpoint: Endpoint,
    standing: Standing,
    early: bytes,
    clock: Callable[[], float],
) -> Near:
    """Dial an endpoint that is near, plainly, and say ``early`` at once; raises `DialFailed`."""
    record.endpoint, record.during = endpoint, _DIAL
    record.tried += 1
    record.standing_before = record.standing_after = standing.state
    record.open, record.evidence, record.rtt = _OPEN_PLAIN, _PLAIN, standing.rtt
    dialled = dial.near(endpoint, early, clock, cluster.source, record.dials)
    record.dial_time = dialled.made - dialled.started
    return dialled


class Dialling:
    """The dials of one session, written down in its record."""

    __slots__ = (
        "_budget", "_cluster", "_counted", "_more", "_plan", "_pool", "_preface", "_progress", "_record",
        "_spares", "_stalled", "_standings", "_told", "_unavailable", "_unsettled", "_watch", "begun", "connected_now",
        "hear_more", "heard_elsewhere", "is_whole", "late", "undecided",
    )  # fmt: skip

    _is_plain = True  # whether a connection is all that is wanted

    def __init__(  # noqa: PLR0913, PLR0917  # what a session shares with others
        self,
        record: SessionRecord,
        cluster: Cluster,
        standings: Standings,
        watch: Watch,
        unavailable: Callable[[int], None],
        spares: Spares,
        pool: Pool | None,
    ) -> None:
        """``unavailable`` is told the errno when the kernel would not fast-open at all; ``pool`` is the cluster's."""
        self._record = record
        self._cluster = cluster
        self._standings = standings
        self._watch = watch
        self._unavailable = unavailable
        self._spares = spares
        self._pool = pool
        self._counted: Endpoint | None = None
        self._budget = dial.SynBudget(2 * (1 + cluster.connect.retries))
        self._more: Callable[[], Sequence[Endpoint]] | None = None  # addresses that have come since
        self._plan: Plan = PLAIN_PLAN
        self.is_whole = (
            False  # the first bytes are a whole request: nothing that the client does concerns the server
        )
        self.begun: Callable[[socket.socket, Endpoint], None] | None = None  # told of every first attempt
        # Told when a handshake with the destination is over.
        self.heard_elsewhere = (
            False  # what the client says next is not to be seen on its socket: a tunnel's far side
        )
        self.connected_now: Callable[[], None] | None = None
        # Takes what the client says while no answer has come: `silence.first_answer`'s ``more``.
        self.hear_more: Callable[[bytes], bytes] | None = None
        self._preface = b""  # what stands in front of the client's bytes: a PROXY header
        self.late: Upstream | None = (
            None  # a connection that was not chosen because it was silent, still open
        )
        self._unsettled = (
            False  # a fast open was ended without a byte, and the plain dial after it is not yet answered
        )
        self._progress: Progress | None = None  # when the last new bytes had come from the upstream
        self._stalled = False  # the packets behind the SYN do not reach it
        self.undecided = False  # and it is not known yet whether it is silent, or its server slow
        self._told = 0  # SYN data sent to endpoints that then did not answer

    @property
    def has_preface(self) -> bool:
        """Whether anything is said to the upstream that is not the client's: a PROXY header, a request to a gateway."""
        return bool(self._preface) or not self._is_plain

    def send_syn(self, endpoint: Endpoint, early: EarlyData) -> dial.Attempt:
        """Begin to dial; raises `DialFailed` for what the kernel knows at once."""
        record, clock = self._record, self._watch.clock
        record.during = _DIAL
        record.tried += 1
        safe = self._safe_prefix(early.data) if early.data else 0
        standing = self._standings.get(endpoint)
        plan = self._plan = standing.plan(self._cluster, safe, clock(), len(early.data) - safe)
        record.endpoint, record.standing_before, record.open = endpoint, standing.state, plan.open
        try:
            attempt = dial.begin(endpoint, early.data, plan, clock, self._cluster.source, record.dials)
        except DialFailed:
            standing.abandon(plan)
            raise
        record.open = attempt.open
        if self.begun is not None:
            self.begun(attempt.sock, endpoint)
        return attempt

    def at_once(self, endpoint: Endpoint, attempt: dial.Attempt, early: EarlyData) -> Upstream | None:
        """The connection, where nothing has to be waited for; raises `DialFailed`."""
        try:
            upstream = dial.at_once(endpoint, attempt, self._watch.clock)
        except DialFailed:
            self._abandon(endpoint)
            raise
        standing, safe = self._standings.get(endpoint), self._record.safe_bytes
        if upstream is None or doubt.is_due(upstream, self._plan, standing, early, safe):
            return None
        self._learn(upstream)
        return upstream

    def connected(self, endpoint: Endpoint) -> None:
        """The session goes to ``endpoint``, and counts as its load until it is `disconnected`."""
        if self._pool is not None:
            self._counted = endpoint
            self._pool.began(endpoint)

    def disconnected(self) -> None:
        """The session is over."""
        if self._pool is not None and self._counted is not None:
            self._pool.ended(self._counted)

    async def first_of(
        self,
        candidates: Sequence[Endpoint],
        early: EarlyData,
        downstream: socket.socket,
        begun: dial.Attempt | None,
    ) -> Upstream:
        """The first endpoint that answers, of as many as may be tried, from ``begun`` on; raises `DialFailed`."""
        if self._cluster.proxy_header is not SendHeader.OFF:
            self._preface = introduction.header(self._record, self._cluster, downstream)
            early = early._replace(data=self._preface + early.data)
            upstream = await self._first_of(candidates, early, downstream, begun)
            return introduction.completed(upstream, self._preface)
        return await self._first_of(candidates, early, downstream, begun)

    async def _first_of(
        self,
        candidates: Sequence[Endpoint],
        early: EarlyData,
        downstream: socket.socket,
        begun: dial.Attempt | None,
    ) -> Upstream:
        failure: DialFailed | None = None
        early_answer = candidates if isinstance(candidates, Early) else None
        first = len(candidates) if begun is None else 1
        left = [*self._in_order(candidates[:first]), *self._in_order(candidates[first:])]
        tried: set[Endpoint] = set()
        self._more = None
        if early_answer is not None:
            so_far = early_answer.now
            self._more = lambda: [one for one in self._in_order(so_far()) if one not in tried]
        while left:
            endpoint = left.pop(0)
            tried.add(endpoint)
            try:
                return await self._from_one_on(endpoint, left, early, downstream, begun)
            except DialFailed as failed:
                begun = None
                if failure is None or failed.rank <= failure.rank:
                    failure = failed
                for other, why in failed.tried.items():
                    if other not in tried:
                        tried.add(other)
                        self._record.tried += 1
                        self._note_failure(other, why)
                if not self.blame(endpoint, failed.tried.get(endpoint, failed)):
                    break
            left = [one for one in left if one not in tried]
            if not left and early_answer is not None:
                left, early_answer = await self._rest(early_answer, tried), None
        raise failure or DialFailed(Reason.NO_ENDPOINT)

    async def _rest(self, early_answer: Early, tried: set[Endpoint]) -> list[Endpoint]:
        """The addresses that the other family's answer brings."""
        self._more = None
        try:
            return [one for one in self._in_order(await early_answer.whole()) if one not in tried]
        except NoSuchHost:
            return []

    async def _from_one_on(
        self,
        endpoint: Endpoint,
        others: Sequence[Endpoint],
        early: EarlyData,
        downstream: socket.socket,
        begun: dial.Attempt | None,
    ) -> Upstream:
        """``endpoint``, or whichever of ``others`` answers before it; raises `DialFailed`."""
        if begun is None and self._cluster.preconnect:
            upstream = await self._on_spare(endpoint, early)
            if upstream is not None:
                return upstream
        if begun is None and not self._budget.allows(endpoint):
            raise DialFailed(Reason.CONNECT_TIMEOUT, why="this session has sent as many SYNs as it may")
        attempt = begun or self.send_syn(endpoint, early)
        near = self._is_plain and begun is None and self._standings.get(endpoint).is_near(self._cluster)
        if near and (upstream := self.at_once(endpoint, attempt, early)) is not None:
            return upstream
        return await self._one(endpoint, attempt, early, downstream, self._rivals(endpoint, others))

    def _rivals(self, endpoint: Endpoint, left: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """The candidates that may be dialled before ``endpoint`` has failed."""
        if not left or endpoint.is_unix:
            return ()
        pool = self._pool
        if pool is None or pool.cluster.is_interchangeable:
            return [other for other in left if not other.is_unix]
        return [other for other in left if not other.is_unix and other.is_ipv6 is not endpoint.is_ipv6][:1]

    def blame(self, endpoint: Endpoint, failed: DialFailed) -> bool:
        """``endpoint`` could not be dialled; whether another may be tried, for it was no trouble of ours."""
        self._note_failure(endpoint, failed)
        return failed.reason not in {Reason.NO_DESCRIPTORS, Reason.NO_MEMORY} and self._may_go_on()

    def _note_failure(self, endpoint: Endpoint, failed: DialFailed) -> None:
        """Remember that ``endpoint`` could not be dialled, for the sessions after this one."""
        if failed.reason in UPSTREAM_FAILURES:
            now = self._watch.clock()
            if self._pool is not None:
                self._pool.failed(endpoint, now, failed.reason)
            else:
                self._standings.families.failed(endpoint, now)
        standing = self._standings.get(endpoint)
        standing.reached = None
        if failed.reason in UPSTREAM_FAILURES and any(
            one.open == "plain" and one.endpoint == endpoint and one.result == failed.reason
            for one in self._record.dials
        ):
            standing.failed()

    def ended(self, *, answered: bool, by_upstream: bool) -> None:
        """The session is over; its upstream has sent bytes (``answered``), and it was the one that ended it, or not."""
        record, now = self._record, self._watch.clock()
        if record.endpoint is None:
            return
        standing, unanswered = self._standings.get(record.endpoint), by_upstream and not answered
        if record.early_bytes:
            self.first_spoke(downstream=True)
        if answered and record.server_first:
            doubt.note_banner(record, standing)
        if self._unsettled and (answered or unanswered):
            standing.compared(self._plan, now, plain_answered=answered)
            record.evidence = Evidence.SILENT if answered else record.evidence
            record.standing_after = standing.state
        elif self._stalled:
            return  # known already, whatever has come meanwhile
        elif record.evidence in doubt.FAST_OPENED:
            doubt.look_back(record, self._plan, standing, now, answered=answered, ended=unanswered)
        elif standing.unanswered is not None and not record.spare and (answered or unanswered):
            standing.plain_ended(now, answered=answered)
            record.standing_after = standing.state

    def first_spoke(self, *, downstream: bool) -> None:
        """Remember whether the client or the server has spoken first."""
        if self._record.endpoint is not None and self._is_plain:
            self._standings.get(self._record.endpoint).client_first = downstream

    def look_after(self, sock: socket.socket, sent: int) -> bool:
        """See whether the packets behind the SYN reach the server; True: it need not be asked again.

        ``sent``: bytes sent to the upstream so far.
        """
        record = self._record
        if record.endpoint is None or record.evidence not in _WITH_COOKIE or sock.family == socket.AF_UNIX:
            return True
        standing = self._standings.get(record.endpoint)
        try:
            progress = sockopt.progress(sock)
        except OSError:
            return True
        if progress.is_stalled(record.syn_bytes, sent, self._progress):
            standing.stalled(self._plan, self._watch.clock())
            record.standing_after = standing.state
            self._stalled = True
            return True
        if self._progress is None or self._progress.received != progress.received:
            self._progress = progress
        if progress.acked > record.syn_bytes:
            standing.stalls = False
        return False

    async def hear_late(self) -> None:
        """Wait until it is known whether the connection that was not chosen is silent, or its server only slow.

        It is as long as a server may think that is known to answer. `hear_later` goes on from there.
        """
        silent, standing = self.late, self._late_standing()
        assert silent is not None
        until = silent.started + (standing.rtt or 0.0) + standing.overdue_after() + _LATER
        if not await self._hears(until) and self.undecided:
            standing.learn(Evidence.SILENT, self._plan, self._watch.clock(), silent.syn_bytes)
            self._record.standing_after = standing.state
        standing.answer_decided()
        self.undecided = False

    async def hear_later(self) -> None:
        """An answer clears the path however late it comes, within seconds after that."""
        if self.late is not None:
            await self._hears(self._watch.clock() + _HEARS_ON)
            self.drop_late()

    async def _hears(self, until: float) -> bool:
        """Whether the silent connection is answered before ``until``; then it is closed, and its standing is mended."""
        silent, record, standing = self.late, self._record, self._late_standing()
        assert silent is not None
        try:
            if not await silence.late_answer(silent, self._watch, until):
                return False
        except OSError:  # no memory to watch it: it is not found out
            self.drop_late()
            return False
        except BaseException:
            self.drop_late()
            raise
        now = self._watch.clock()
        record.evidence = Evidence.PLAIN  # of the connection that was used
        if silent.syn_bytes:
            standing.learn(silent.evidence, self._plan, now)
            standing.answered = True
            standing.learn_answer(now - silent.started - (standing.rtt or 0.0))
        else:
            standing.greeted = True
        record.standing_after = standing.state
        self.drop_late("lost")
        return True

    def _late_standing(self) -> Standing:
        assert self.late is not None
        return self._standings.get(self.late.endpoint)

    def drop_late(self, result: str = "silent") -> None:
        """Close the connection that `hear_late` was to listen to."""
        if self.undecided and result == "silent":
            self._late_standing().abandon(self._plan)  # it was not found out
        if self.undecided:
            self._late_standing().answer_decided()
        late, self.late, self.undecided = self.late, None, False
        if late is not None:
            silence.give_up(late, result, self._watch.clock())

    async def _one(
        self,
        endpoint: Endpoint,
        attempt: dial.Attempt,
        early: EarlyData,
        downstream: socket.socket,
        others: Sequence[Endpoint],
    ) -> Upstream:
        """``endpoint``, or one of ``others`` that was dialled while it did not answer; raises `DialFailed`."""
        plan, watch, timeout = self._plan, self._watch, self._cluster.connect.timeout
        try:
            upstream = await dial.connect(
                endpoint, attempt, watch, timeout, hedge=plan.hedge, redial=True, others=others,
                stagger=self._standings.get(endpoint).stagger(), more=self._more, budget=self._budget,
            )  # fmt: skip
            if self._is_plain:
                self._record.during = _RELAY
            if self._is_plain and self.connected_now is not None:
                self.connected_now()  # a client that waits for this cannot speak before, nor can its server answer
            upstream = await self._answering(upstream, endpoint, early, downstream)
        except BaseException:
            self._told += attempt.syn_bytes
            self._abandon(endpoint)
            raise
        self._record.tried += upstream.dialled - 1
        if upstream.endpoint != endpoint:
            self._overtaken(endpoint, upstream)
        elif others and self._pool is None:
            self._standings.families.worked(self._name(), endpoint)
        self._learn(upstream)
        return upstream

    async def _answering(
        self, upstream: Upstream, endpoint: Endpoint, early: EarlyData, downstream: socket.socket
    ) -> Upstream:
        """A connection that is there, or another one where it stays silent and that is the path's doing."""
        plan, standing, safe = self._plan, self._standings.get(endpoint), self._record.safe_bytes
        more = self.hear_more if self._is_plain and not self._preface else None
        if not (
            doubt.may_start_over(upstream, standing, early, safe)
            or (more is not None and doubt.may_lose_more(upstream, standing, early))
        ):
            return upstream
        if self.heard_elsewhere and not early.data:
            return upstream  # the wait for a banner would not end when the client speaks
        timeout = self._cluster.connect.timeout
        chosen = await doubt.answering(
            upstream,
            early,
            downstream,
            self._watch,
            standing,
            plan.hedge,
            timeout,
            self._may_doubt,
            self.is_whole,
            more,
        )
        self._unsettled = chosen.unanswered and not chosen.spoke
        self.late, self.undecided = chosen.late, chosen.late is not None
        if self.late is not None:
            self._late_standing().wait_for_answer(self._watch.clock())
        return chosen

    def _may_go_on(self) -> bool:
        """Whether another endpoint may be tried after one that failed."""
        return True

    def _may_doubt(self) -> bool:
        plan, endpoint = self._plan, self._record.endpoint
        assert endpoint is not None
        standing = self._standings.get(endpoint)
        if not plan.alone and not standing.doubted:
            if not standing.take_risk(self._watch.clock()):
                return False
            self._plan = plan._replace(alone=True)
        return True

    def _abandon(self, endpoint: Endpoint) -> None:
        self._standings.get(endpoint).abandon(self._plan)

    async def _on_spare(self, endpoint: Endpoint, early: EarlyData) -> Upstream | None:
        """A connection dialled beforehand, where there is one for these first bytes and the server still has it."""
        record, clock, data = self._record, self._watch.clock, early.data
        record.during = Stage.DIAL
        safe = self._safe_prefix(data) if data else 0
        spare = None if early.ended else self._spares.take(self._cluster, endpoint, len(data), safe)
        if spare is None:
            return None
        taken, standing = clock(), self._standings.get(endpoint)
        told = Dial(endpoint, "spare", taken, sockopt.local_address(spare.sock))
        record.dials.append(told)
        try:
            sent = silence.say(spare.sock, data)
            if data and not spare.greeted and not await alive(spare.sock, standing, self._watch):
                self._spares.died(self._cluster, endpoint, spare)
                record.repeated_bytes, record.dead_spare = sent, clock() - taken
                told.result, told.ended = Reason.CLOSED, clock()
                return None
        except BaseException:
            spare.sock.close()
            raise
        record.tried += 1
        record.endpoint, record.open, record.spare = endpoint, "spare", True
        record.standing_before = record.standing_after = standing.state
        record.evidence, record.dial_time, record.rtt = Evidence.PLAIN, 0.0, standing.rtt
        told.result = "won"
        return Upstream(endpoint, spare.sock, sent, Evidence.PLAIN, 0, taken, taken, None)

    def _overtaken(self, first: Endpoint, upstream: Upstream) -> None:
        """Another address than ``first`` has answered; it and those dialled in between have failed or are slower."""
        won, pool, now = upstream.endpoint, self._pool, self._watch.clock()
        families, record = self._standings.families, self._record
        record.endpoint, record.open, record.syn_bytes = won, Open.PLAIN, 0
        record.standing_before = self._standings.get(won).state
        self._abandon(first)
        self._plan = PLAIN_PLAN
        for endpoint, (began, failed) in upstream.passed_over.items():
            if failed is not None:
                self._note_failure(endpoint, failed)
            elif endpoint.is_ipv6 is not won.is_ipv6 or now - began > _SILENT_FOR:
                if pool is not None:
                    pool.failed(endpoint, now, Reason.CONNECT_TIMEOUT)
                else:
                    families.failed(endpoint, now)
        if pool is None and first.is_ipv6 is not won.is_ipv6:
            families.overtaken(self._name(), first, now)

    def _in_order(self, candidates: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """Addresses of a name that the client gave: those that lately failed last, the families in turn.

        A pool has a memory of its own, and has put them in order.
        """
        source = self._cluster.source
        if source is not None:
            candidates = [endpoint for endpoint in candidates if source.reaches(endpoint)] or candidates
        if self._pool is not None:
            return candidates
        return interleaved(self._standings.families.ordered(self._name(), candidates, self._watch.clock()))

    def _name(self) -> str:
        authority = self._record.authority
        return authority.host if authority is not None else ""

    def _learn(self, upstream: Upstream) -> None:
        standing = self._standings.get(upstream.endpoint)
        doubt.learn(self._record, upstream, standing, self._plan, self._told)
        if upstream.unavailable:
            self._unavailable(upstream.unavailable)

    def may_repeat(self, said: bytes) -> bool:
        """Whether all of the client's first bytes may be sent twice."""
        mode = self._cluster.replay
        return mode is _ANY or (mode is not _NONE and replay.classify(said)[0] == len(said))

    def _safe_prefix(self, early: bytes) -> int:
        record, mode, preface = self._record, self._cluster.replay, len(self._preface)
        known, record.protocol = replay.classify(early[preface:] if preface else early)
        if mode is _NONE:
            return 0
        # A client that put bytes into its own SYN has said that they may come twice.
        own = min(record.client_syn_bytes, len(early) - preface)
        safe = record.safe_bytes = len(early) if mode is _ANY else preface + max(known, own)
        return safe
