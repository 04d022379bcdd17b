"""What the kernel says of one handshake, and what that means for Fast Open.

The return value of ``sendto(MSG_FASTOPEN)`` is no evidence: it is the same for success, a stale cookie, a closed
port and a middlebox that eats the SYN. ``TCP_INFO``, read when the handshake has ended, tells them apart. Field
offsets are those of ``struct tcp_info`` in ``include/uapi/linux/tcp.h``; ``fastopen_client_fail`` came with Linux
5.5 (commit 480274787d7e), ``total_rto`` with 6.7.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import NamedTuple

INFO_SIZE = 248  # up to and including tcpi_total_rto_time
_ESTABLISHED = 1  # TCP_ESTABLISHED, include/net/tcp_states.h
_OPTION_SYN_DATA = 32
_OPTION_TFO_CHILD = 128
_DATA_NOT_ACKED = 2
_SYN_RETRANSMITTED = 3
_INITIAL_RTO = 0.9  # the kernel's first SYN timeout is 1 s (TCP_TIMEOUT_INIT), less what clocks may differ
_FIELDS = struct.Struct(
    "=B4xBxB60xII24xI"
)  # state@0, options@5, bits@7, rtt@68, rttvar@72, total_retrans@100
_LATER_FIELDS = struct.Struct(
    "=QQ16xI68xI"
)  # bytes_acked@120, bytes_received, data_segs_in@152, rcv_ooopack@224
_LATER_OFFSET, _LATER_END = 120, 228
_PROGRESS = struct.Struct(
    "=4xB115xQQ4xI8xI"
)  # backoff@4, bytes_acked@120, bytes_received@128, segs_in@140, data_segs_in@152
_ENOUGH_TIMEOUTS = 3  # in a row: chance takes a path that loses much
_ENOUGH_SYN_ACKS = 3
_ENOUGH_REPEATS = 2
_TOTAL_RTO = struct.Struct("=H")
_TOTAL_RTO_OFFSET = 240
_NOTHING = (0, 0, 0, 0)


class TcpInfo(NamedTuple):
    """The few fields of ``TCP_INFO`` that tell how a handshake went."""

    established: bool  # the handshake is over
    syn_data: bool  # client: our SYN data was acknowledged; server: the SYN carried data that was taken
    fast_open_child: bool  # server: the connection came from a SYN with a valid cookie
    client_fail: int  # 0 unspecified, 1 cookie unavailable, 2 data not acked, 3 SYN retransmitted
    rtt: float  # smoothed, in seconds
    rtt_variation: float  # in seconds
    retransmits: int  # segments repeated so far (``total_retrans``)
    timeouts: int | None  # retransmission time-outs so far; None before Linux 6.7
    acked: int = 0  # bytes that the peer has acknowledged, without the SYN; 0 before Linux 5.4
    overtaken: bool = (
        False  # data came before the SYN-ACK and was dropped (tcp_rcv_state_process() takes none yet)
    )

    @classmethod
    def parse(cls, raw: bytes) -> TcpInfo:
        """From what ``getsockopt(IPPROTO_TCP, TCP_INFO, 248)`` returned (at least 104 bytes)."""
        state, options, bits, rtt, variation, retransmits = _FIELDS.unpack_from(raw)
        known = len(raw) >= _TOTAL_RTO_OFFSET + 2
        acked, received, segments, out_of_order = (
            _LATER_FIELDS.unpack_from(raw, _LATER_OFFSET) if len(raw) >= _LATER_END else _NOTHING
        )
        fields = (
            state == _ESTABLISHED,
            bool(options & _OPTION_SYN_DATA),
            bool(options & _OPTION_TFO_CHILD),
            (bits >> 1) & 3,
            rtt / 1e6,
            variation / 1e6,
            retransmits,
            _TOTAL_RTO.unpack_from(raw, _TOTAL_RTO_OFFSET)[0] if known else None,
            # The SYN counts as one (tcp_snd_una_update() in net/ipv4/tcp_input.c).
            acked - 1 if acked else 0,
            segments > out_of_order and not received,
        )
        # One for every session: what a named tuple costs to make the usual way counts.
        return tuple.__new__(cls, fields)  # pyright: ignore[reportUnknownMemberType]  # of any tuple


class Progress(NamedTuple):
    """What ``TCP_INFO`` tells of the packets behind the SYN."""

    timeouts: int  # of retransmissions in a row, for bytes that have not been acknowledged
    acked: int  # bytes that have been, the SYN's data included
    received: int  # bytes, each counted once
    bare: int  # segments that came without data, the SYN-ACK included
    laden: int  # and with data, repeated ones included

    @classmethod
    def parse(cls, raw: bytes) -> Progress:
        """From what ``getsockopt(IPPROTO_TCP, TCP_INFO, 248)`` returned (156 bytes and more: Linux 4.6)."""
        timeouts, acked, received, segments, laden = _PROGRESS.unpack_from(raw)
        # The SYN itself counts as a byte (tcp_snd_una_update() in net/ipv4/tcp_input.c).
        return cls(timeouts, max(acked - 1, 0), received, segments - laden, laden)

    def is_stalled(self, syn_bytes: int, sent: int, before: Progress | None) -> bool:
        """Whether the peer does not seem to get what follows a SYN with ``syn_bytes``, of ``sent`` bytes in all.

        What was sent behind the SYN is repeated in vain; or the peer repeats itself because it gets no acknowledgement:
        its SYN-ACK, where nothing was sent (tcp_fastopen_synack_timer() in net/ipv4/tcp_timer.c, after 1 and 3 s), or
        what it had sent ``before``. For peers that are read from: a full receive buffer is probed in the same way.
        """
        if self.timeouts >= _ENOUGH_TIMEOUTS or (sent <= syn_bytes and self.bare >= _ENOUGH_SYN_ACKS):
            return True
        repeats = before is not None and before.received == self.received
        return repeats and before is not None and self.laden - before.laden >= _ENOUGH_REPEATS


class Evidence(StrEnum):
    """What one dial showed of an endpoint and the path to it."""

    SYN_DATA_ACKED = "syn_data_acked"  # the saved round trip
    EMPTY_OPEN = "empty_open"  # SYN with cookie and no data, answered
    COOKIE_REQUESTED = "cookie_requested"  # no cookie yet: the SYN asked for one
    COOKIE_WITHHELD = "cookie_withheld"  # asked again and again, none ever came
    SYN_DATA_NOT_ACKED = (
        "syn_data_not_acked"  # stale cookie, or data stripped; repeated by the kernel, no time lost
    )
    SYN_DATA_IGNORED = "syn_data_ignored"  # not acked again and again
    SYN_DATA_LOST = "syn_data_lost"  # the SYN with data went unanswered, a bare one did not
    OPTION_LOST = "option_lost"  # the SYN with only the option went unanswered, a bare one did not
    SYN_ACK_LOST = "syn_ack_lost"  # the answer got lost or was late: not Fast Open's fault
    PATH_MTU = "path_mtu"  # the SYN was too large for the path, and ICMP said so
    REFUSED = "refused"  # RST or ICMP to the fast open, while a plain dial got through
    SILENT = "silent"  # nothing came after the handshake, while a plain dial was answered
    ANSWER_DROPPED = "answer_dropped"  # the answer overtook the SYN-ACK, and our kernel dropped it
    PLAIN = "plain"  # an ordinary dial: says nothing
    NO_HANDSHAKE = "no_handshake"  # no dial got through, a plain one neither: says nothing
    UNAVAILABLE = "unavailable"  # this kernel or namespace does not do Fast Open for clients


LOSSES = frozenset({Evidence.SYN_DATA_LOST, Evidence.OPTION_LOST, Evidence.REFUSED, Evidence.SILENT})
# Bound once: asking an enum for a member costs as much as a call (Python 3.11).
_ACKED, _NOT_ACKED = Evidence.SYN_DATA_ACKED, Evidence.SYN_DATA_NOT_ACKED
_REQUESTED, _EMPTY_OPEN = Evidence.COOKIE_REQUESTED, Evidence.EMPTY_OPEN


def read_handshake(info: TcpInfo, syn_bytes: int, elapsed: float) -> Evidence:
    """What a finished fast-open handshake shows. ``syn_bytes`` is what ``sendto`` took, ``elapsed`` in seconds.

    The cases and their signatures were measured on Linux 6.18, each is repeated by a test on the wire.
    """
    if syn_bytes:
        return _with_data(info, elapsed)
    if not info.retransmits:
        return _REQUESTED if info.client_fail == 1 else _EMPTY_OPEN
    if info.rtt >= _INITIAL_RTO:  # timestamps echo the first SYN: it arrived, its answer did not
        return Evidence.SYN_ACK_LOST
    return Evidence.OPTION_LOST


def _with_data(info: TcpInfo, elapsed: float) -> Evidence:
    if info.syn_data:
        return _ACKED
    if info.client_fail == _SYN_RETRANSMITTED or (info.retransmits > 1 and elapsed >= _INITIAL_RTO):
        timed_out = info.timeouts > 0 if info.timeouts is not None else elapsed >= _INITIAL_RTO
        if not timed_out:
            return Evidence.PATH_MTU
        return Evidence.SYN_ACK_LOST if info.rtt >= _INITIAL_RTO else Evidence.SYN_DATA_LOST
    return _NOT_ACKED
