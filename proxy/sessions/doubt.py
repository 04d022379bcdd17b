"""When a fast-opened connection that says nothing may be doubted, and what its answer or its silence says of the path.

An endpoint that has answered SYN data before may think for a while; one that never has may sit behind a path that drops
what follows a fast open, and is doubted as soon as a handshake would be. Either way one session at a time says its
early data twice, so that a server which is slow because it is busy does not get twice the work.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable

from proxy.core.evidence import Evidence
from proxy.core.fastopen import Plan, Standing
from proxy.core.record import SessionRecord
from proxy.net import silence, sockopt
from proxy.net.sniff import EarlyData
from proxy.net.upstream import Upstream
from proxy.net.watch import Watch

# Bound once: asking an enum for a member costs as much as a call (Python 3.11).
_EMPTY_OPEN, _NOT_ACKED, _PLAIN = Evidence.EMPTY_OPEN, Evidence.SYN_DATA_NOT_ACKED, Evidence.PLAIN
_TAKEN = frozenset({Evidence.SYN_DATA_ACKED, Evidence.ANSWER_DROPPED})
_AT_ONCE = 3.0  # seconds
# Of dials whose fast-opened connection is the one that was used.
FAST_OPENED = frozenset(
    {Evidence.SYN_DATA_ACKED, Evidence.EMPTY_OPEN, Evidence.COOKIE_REQUESTED, Evidence.COOKIE_WITHHELD,
     Evidence.SYN_DATA_NOT_ACKED, Evidence.SYN_DATA_IGNORED, Evidence.SYN_ACK_LOST, Evidence.PATH_MTU,
     Evidence.ANSWER_DROPPED}
)  # fmt: skip


def is_proven(standing: Standing, upstream: Upstream) -> bool:
    """Whether a connection that was opened so was answered before at this endpoint."""
    return standing.answered or (standing.greeted and upstream.evidence is _EMPTY_OPEN)


def may_start_over(upstream: Upstream, standing: Standing, early: EarlyData, safe: int) -> bool:
    """Whether a connection that is ended without a byte may be made once more, plainly, and be told the same."""
    if upstream.plain or upstream.evidence is _PLAIN:
        return False
    if early.data:
        return safe == len(early.data)
    if early.ended or upstream.evidence is not _EMPTY_OPEN:
        return False
    return expects_banner(standing)


def expects_banner(standing: Standing) -> bool:
    """Whether the server may speak first, for all we know: one that does not may stay silent."""
    return standing.greeted or not (standing.answered or standing.quiet)


def may_lose_more(upstream: Upstream, standing: Standing, early: EarlyData) -> bool:
    """Whether what the client says after an empty fast open could be lost: none was answered here before."""
    return (
        upstream.evidence is _EMPTY_OPEN
        and not (upstream.plain or early.data or early.ended)
        and not is_proven(standing, upstream)
    )


def may_be_silent(upstream: Upstream) -> bool:
    """Whether silence after this handshake could be the path's doing: it was a fast open."""
    return upstream.syn_bytes > 0 or upstream.evidence is _EMPTY_OPEN


def is_due(upstream: Upstream, plan: Plan, standing: Standing, early: EarlyData, safe: int) -> bool:
    """Whether the answer has to be waited for, although the handshake was over at once."""
    return (
        plan.hedge is not None
        and not is_proven(standing, upstream)
        and may_be_silent(upstream)
        and may_start_over(upstream, standing, early, safe)
    )


async def answering(  # noqa: PLR0913, PLR0917  # a session, its upstream, and what is between them
    primary: Upstream,
    early: EarlyData,
    downstream: socket.socket,
    watch: Watch,
    standing: Standing,
    hedge: float | None,
    timeout: float,
    may_doubt: Callable[[], bool],
    whole: bool = False,
    more: Callable[[bytes], bytes] | None = None,
) -> Upstream:
    """The connection whose answer has come, ``primary`` or one dialled plainly.

    ``hedge``: seconds after which a plain one joins; None: only where ``primary`` is ended without a byte.
    ``whole``, ``more``: as for `silence.first_answer`.
    """
    # Where the answer was dropped there is nothing to wait for but the server's repetition, after a second perhaps.
    dropped = primary.overtaken and hedge is not None
    in_syn = primary.evidence in _TAKEN and primary.sent == len(early.data)
    possible = (
        primary.started if in_syn else primary.connected
    )  # and a round trip later an answer could be here
    try:
        doubt_at = patience = math.inf
        if hedge is not None and may_be_silent(primary):
            patience = standing.overdue_after() if is_proven(standing, primary) else hedge
            if early.data or expects_banner(standing):
                doubt_at = possible + patience
        primary.sent += silence.say(primary.sock, early.data[primary.sent :])
        upstream = await silence.first_answer(
            primary,
            early.data,
            watch,
            downstream,
            doubt_at=primary.connected if dropped else doubt_at,
            timeout=timeout,
            may_doubt=(lambda: True) if dropped else may_doubt,
            whole=whole,
            more=more,
            patience=patience,
        )
    except BaseException:
        sockopt.reset_on_close(primary.sock)  # a FIN would make what was cut off look complete
        primary.sock.close()
        raise
    if dropped and upstream is not primary and upstream.spoke:
        upstream.evidence = Evidence.ANSWER_DROPPED
        if upstream.late is not None:  # it is on its way again, and says nothing more
            silence.give_up(upstream.late, "lost", watch.clock())
            upstream.late = None
    elif primary.spoke and (primary.syn_bytes or primary.evidence is _EMPTY_OPEN):
        if primary.syn_bytes:
            standing.answered = True
        else:
            standing.greeted = True
        if not upstream.heard:
            standing.learn_answer(watch.clock() - possible - (standing.rtt or 0.0))
    elif not early.data and not upstream.heard and upstream.hedged and not upstream.spoke:
        standing.quiet = watch.clock() - upstream.connected > (standing.rtt or 0.0)
    return upstream


def look_back(
    record: SessionRecord, plan: Plan, standing: Standing, now: float, *, answered: bool, ended: bool
) -> None:
    """Learn from how a session has ended: ``answered`` by the upstream, or ``ended`` by it without a byte."""
    if record.evidence is None or record.spare:
        return
    silent = now - record.began - record.waited - (record.dial_time or 0.0)
    if answered:
        standing.learn_end(record.evidence, plan, now, answered=True)
    elif ended:
        # A server that was told nothing may have waited for long enough; a middlebox ends it at once.
        if record.up_bytes or silent < _AT_ONCE:
            standing.ended_unanswered(plan, now)
            record.standing_after = standing.state
    elif record.up_bytes and silent > standing.overdue_after():
        standing.learn_end(record.evidence, plan, now, answered=False)


def note_banner(record: SessionRecord, standing: Standing) -> None:
    """Find out whether an empty fast open has brought a banner a round trip sooner than other dials do.

    The kernel does not tell whether the server took the cookie, but a server that took it has begun a round trip
    earlier: less time passes between handshake and banner than after dials that were as good as plain.
    """
    used = record.dial
    if used is None or used.ended is None or record.first_byte is None or record.rtt is None or record.spare:
        return
    took = record.began + record.first_byte - used.ended
    if record.evidence is not _EMPTY_OPEN:
        standing.learn_banner(took)
    elif standing.banner is not None:
        record.greeted = took < standing.banner - record.rtt / 2


def learn(record: SessionRecord, upstream: Upstream, standing: Standing, plan: Plan, told: int) -> None:
    """Write down how the dial went, and what it says of the endpoint and the way there.

    ``told``: bytes in SYNs to others, who then did not answer.
    """
    info, evidence = upstream.info, upstream.evidence
    record.evidence = evidence
    record.dial_time = upstream.connected - upstream.started
    record.doubted, record.overtaken = upstream.doubted, upstream.overtaken
    if upstream.syn_bytes and record.open != "plain":
        record.syn_bytes = upstream.syn_bytes
    if upstream.repeated or told:
        record.repeated_bytes += upstream.repeated + told
    if upstream.hedged or upstream.redialled:
        record.hedged, record.redialled = upstream.hedged, upstream.redialled
    if info is not None:
        if info.retransmits:
            record.retransmits = info.retransmits
        if not info.retransmits or evidence is _NOT_ACKED:
            standing.learn_rtt(info.rtt)
        record.rtt = standing.rtt
    if upstream.late is None:
        spoke, sure = upstream.spoke, upstream.unanswered
        if evidence is Evidence.ANSWER_DROPPED:
            spoke = spoke and upstream.plain
        record.evidence = standing.learn(
            evidence, plan, upstream.connected, upstream.syn_bytes, answered=spoke, sure=sure
        )
    record.standing_after = standing.state
