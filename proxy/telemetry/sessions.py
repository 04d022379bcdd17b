"""One session as log fields, and as a line of JSON.

Both come from `SessionLine`, which lists the fields in their order; msgspec writes it out. Fields that are None are
left out. Texts that clients or the configuration choose are shortened here and made printable by `logs.line_of`.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import cast

import msgspec

from proxy.core.address import Endpoint, Target
from proxy.core.record import Dial, SessionRecord
from proxy.telemetry.logs import line_of, shortened, time_of

__all__ = ["session_fields", "session_id", "session_line"]

_MICRO = 6
_PROCESS = os.urandom(3).hex()


def session_id(record: SessionRecord) -> str:
    """A name for one session: unique among all sessions of this process and of those before it."""
    return f"{_PROCESS}-{record.number:x}"


class DialLine(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One dial of a session that made several. Times are seconds from accept, but `took`."""

    local: str | None = None
    endpoint: str
    open: str
    why: str
    at: float
    syn_bytes: int | None = None
    took: float | None = None  # until the handshake was over, or had failed
    retransmits: int | None = None
    result: str


class SessionLine(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The fields of docs/log.md, in their order. Times in seconds, sizes in bytes."""

    time: str | None = None
    level: str | None = None
    event: str | None = None
    id: str
    start: str | None = None
    listener: str
    client: str
    cluster: str
    endpoint: str | None = None
    local: str | None = None
    mode: str | None = None
    asked: float | None = None
    authority: str | None = None
    user: str | None = None
    reply: str | None = None
    early_bytes: int
    protocol: str | None = None
    open: str | None = None
    syn_planned: int | None = None
    syn_bytes: int | None = None
    syn_acked: int | None = None
    evidence: str | None = None
    standing_before: str | None = None
    standing_after: str | None = None
    dial_start: float | None = None
    dial_time: float | None = None
    first_byte: float | None = None
    rtt: float | None = None
    waited: float | None = None
    doubted: float | None = None
    dead_spare: float | None = None
    saved: float | None = None
    lost: float | None = None
    client_syn_bytes: int | None = None
    duplicate: bool | None = None
    spare: bool | None = None
    hedged: bool | None = None
    redialled: bool | None = None
    repeated_bytes: int | None = None
    retransmits: int | None = None
    detail: str | None = None
    tried: int | None = None
    dials: list[DialLine] | None = None
    up_bytes: int
    down_bytes: int
    duration: float
    ended_by: str
    during: str
    reason: str


def session_fields(record: SessionRecord) -> dict[str, object]:
    """The record as log fields: nothing that is not known, times in seconds rounded to microseconds."""
    return cast("dict[str, object]", msgspec.to_builtins(_line(record)))


def session_line(record: SessionRecord, when: float, start: float) -> bytes:
    """The record as the logger would write it at ``when``; it began at ``start``. Both in seconds since 1970."""
    line = _line(record)
    line.time, line.level, line.event = time_of(when), "info", "session"
    line.start = time_of(start)
    return line_of(line)


def _line(record: SessionRecord) -> SessionLine:
    dials = record.dials
    line = SessionLine(
        id=f"{_PROCESS}-{record.number:x}",
        listener=shortened(record.listener),
        client=shortened(record.client),
        cluster=shortened(record.cluster),
        early_bytes=record.early_bytes,
        protocol=record.protocol or None,
        up_bytes=record.up_bytes,
        down_bytes=record.down_bytes,
        duration=round(record.duration, _MICRO),
        ended_by=record.ended_by,
        during=record.during,
        reason=record.reason,
    )
    if record.endpoint is not None:
        line.endpoint = _place(record.endpoint)
    if record.mode:
        _add_request(line, record)
    if record.evidence is not None:
        line.open, line.syn_bytes, line.evidence = record.open, record.syn_bytes, record.evidence
        line.standing_before, line.standing_after = record.standing_before, record.standing_after
        line.dial_time, line.rtt = _seconds(record.dial_time), _seconds(record.rtt)
    if dials:
        _add_dials(line, record, dials)
    line.first_byte = _seconds(record.first_byte)
    if record.saved or record.lost or record.waited:
        line.saved, line.lost, line.waited = (
            _seconds(record.saved),
            _seconds(record.lost),
            _seconds(record.waited),
        )
    if record.spare or record.dead_spare:
        line.spare, line.dead_spare = record.spare or None, _seconds(record.dead_spare)
    if record.client_syn_bytes or record.duplicate:
        line.client_syn_bytes, line.duplicate = record.client_syn_bytes or None, record.duplicate or None
    if record.retransmits or record.repeated_bytes:
        line.retransmits, line.repeated_bytes = record.retransmits or None, record.repeated_bytes or None
    if record.detail:
        line.detail = shortened(record.detail)
    return line


def _add_request(line: SessionLine, record: SessionRecord) -> None:
    """What the client asked for."""
    line.mode, line.asked, line.reply = record.mode, round(record.asked, _MICRO), record.reply or None
    if record.authority is not None:
        line.authority = _place(record.authority)
    if record.user is not None:
        line.user = shortened(record.user)


def _add_dials(line: SessionLine, record: SessionRecord, dials: list[Dial]) -> None:
    """The connection that was used; where there were several dials, all of them."""
    first = dials[0]
    line.dial_start = round(first.started - record.began, _MICRO)
    if len(dials) == 1:
        used = first
    else:
        used = record.dial or first
        line.dials = [_dial(dial, record.began) for dial in dials]
        line.tried = record.tried if record.tried > 1 else None
        line.hedged, line.redialled = record.hedged or None, record.redialled or None
        line.doubted = _seconds(record.doubted)
    if used.local is not None:
        line.local = str(used.local)
    if first.planned != first.syn_bytes:
        line.syn_planned = first.planned
    if first.acked is not None and 0 < first.acked < first.syn_bytes:
        line.syn_acked = first.acked


def _dial(dial: Dial, began: float) -> DialLine:
    return DialLine(
        local=None if dial.local is None else str(dial.local),
        endpoint=_place(dial.endpoint),
        open=dial.open,
        why=dial.why,
        at=round(dial.started - began, _MICRO),
        syn_bytes=dial.syn_bytes or None,
        took=None if dial.ended is None else round(dial.ended - dial.started, _MICRO),
        retransmits=dial.retransmits or None,
        result=dial.result,
    )


@lru_cache(4096)
def _place(place: Endpoint | Target) -> str:
    """As text; most sessions go where others went."""
    return shortened(str(place))


def _seconds(seconds: float | None) -> float | None:
    return round(seconds, _MICRO) if seconds else None
