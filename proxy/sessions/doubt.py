"""When a fast-opened connection that says nothing may be doubted, and what its answer or its silence says of the path.

An endpoint that has answered SYN data before may think for a while; one that never has may sit behind a path that drops
what follows a fast open, and is doubted as soon as a handshake would be. Either way one session at a time says its
early data twice, so that a server which is slow because it is busy does not get twice the work.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from proxy.core.evidence import Evidence
from proxy.core.fastopen import Plan, Standing
from proxy.core.record import SessionRecord
from proxy.net import silence
from proxy.net.sniff import EarlyData
from proxy.net.upstream import Upstream
from proxy.net.watch import Watch

# Bound once: asking an enum for a member costs as much as a call (Python 3.11).
_EMPTY_OPEN, _NOT_ACKED = Evidence.EMPTY_OPEN, Evidence.SYN_DATA_NOT_ACKED
_TAKEN = frozenset({Evidence.SYN_DATA_ACKED, Evidence.ANSWER_DROPPED})


def is_proven(standing: Standing, early: EarlyData) -> bool:
    """Whether such a connection to this endpoint was answered before."""
    return standing.answered or (standing.greeted and not early.data)


def may_start_over(upstream: Upstream, plan: Plan, standing: Standing, early: EarlyData, safe: int) -> bool:
    """Whether silence after this handshake could be the path's doing, and saying all again would be safe."""
    if upstream.plain or plan.hedge is None:
        return False
    if early.data:
        return upstream.syn_bytes > 0 and safe == len(early.data)
    if early.ended or upstream.evidence is not _EMPTY_OPEN:
        return False
    # Perhaps a banner should have come. A server that does not speak first may stay silent.
    return not (is_proven(standing, early) or standing.quiet)


def is_due(upstream: Upstream, plan: Plan, standing: Standing, early: EarlyData, safe: int) -> bool:
    """The same, where nobody knows yet whether such connections are answered."""
    return not is_proven(standing, early) and may_start_over(upstream, plan, standing, early, safe)


async def answering(  # noqa: PLR0913, PLR0917  # a session, its upstream, and what is between them
    primary: Upstream,
    early: EarlyData,
    downstream: socket.socket,
    watch: Watch,
    standing: Standing,
    hedge: float,
    timeout: float,
    may_doubt: Callable[[], bool],
) -> Upstream:
    """The connection whose answer has come, ``primary`` or one dialled plainly; the other is closed."""
    # Where the answer was dropped there is nothing to wait for but the server's repetition, after a second perhaps.
    dropped, patience = primary.overtaken, standing.overdue_after() if is_proven(standing, early) else hedge
    in_syn = primary.evidence in _TAKEN and primary.sent == len(early.data)
    possible = (
        primary.started if in_syn else primary.connected
    )  # and a round trip later an answer could be here
    try:
        primary.sent += silence.say(primary.sock, early.data[primary.sent :])
        upstream = await silence.first_answer(
            primary,
            early.data,
            watch,
            downstream,
            doubt_at=primary.connected if dropped else possible + patience,
            timeout=timeout,
            may_doubt=(lambda: True) if dropped else may_doubt,
        )
    except BaseException:
        primary.sock.close()
        raise
    if dropped and upstream is not primary and upstream.spoke:
        upstream.evidence = Evidence.ANSWER_DROPPED
    elif primary.spoke and early.data:
        standing.answered = True
        standing.learn_answer(watch.clock() - possible - (standing.rtt or 0.0))
    elif primary.spoke:
        standing.greeted = True
    elif not early.data and upstream.hedged and not upstream.spoke:
        standing.quiet = watch.clock() - upstream.connected > (standing.rtt or 0.0)
    return upstream


def look_back(record: SessionRecord, plan: Plan, standing: Standing, now: float, *, answered: bool) -> None:
    """The session is over; its upstream has said something, or it has not."""
    if record.evidence is None or record.spare:
        return
    silent = now - record.began - record.waited - (record.dial_time or 0.0)
    if answered or (record.up_bytes and silent > standing.overdue_after()):
        standing.learn_end(record.evidence, plan, now, answered=answered)


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
    record.evidence = standing.learn(
        evidence, plan, upstream.connected, upstream.syn_bytes, answered=upstream.spoke
    )
    record.standing_after = standing.state
