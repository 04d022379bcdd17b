"""One session as log fields, and as a line of JSON.

The line is what the logger would make of the fields, byte for byte (`tests/telemetry/test_sessions.py` compares them),
in a fifth of the time: what most lines have in common is text already, and only what differs is formatted. Whatever
anybody could have a say in goes through `logs.quoted`; the rest are numbers, and words of closed lists.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TypeAlias

from proxy.core.address import Endpoint, Target
from proxy.core.evidence import Evidence
from proxy.core.fastopen import State
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.record import Peer, SessionRecord
from proxy.telemetry.lines import LONGEST
from proxy.telemetry.logs import encoded, line_of, quoted, time_of

__all__ = ["session_fields", "session_id", "session_line"]

_MICRO = 6
_PROCESS = os.urandom(3).hex()


def session_id(record: SessionRecord) -> str:
    """A name for one session: unique among all that this process, and those before it, have had."""
    return f"{_PROCESS}-{record.number:x}"


def session_fields(record: SessionRecord) -> dict[str, object]:
    """The record as log fields: nothing that is not known, times in seconds rounded to microseconds."""
    fields: dict[str, object] = {
        "id": session_id(record),
        "listener": record.listener,
        "client": record.client,
        "cluster": record.cluster,
    }
    if record.endpoint is not None:
        fields["endpoint"] = str(record.endpoint)
    if record.mode:
        fields |= _request_fields(record)
    fields["early_bytes"] = record.early_bytes
    if record.protocol:
        fields["protocol"] = record.protocol
    if record.evidence is not None:
        fields["open"] = record.open
        fields["syn_bytes"] = record.syn_bytes
        fields["evidence"] = record.evidence
        fields["standing_before"] = record.standing_before
        fields["standing_after"] = record.standing_after
    if record.dial_time:
        fields["dial_time"] = round(record.dial_time, _MICRO)
    if record.first_byte:
        fields["first_byte"] = round(record.first_byte, _MICRO)
    if record.rtt:
        fields["rtt"] = round(record.rtt, _MICRO)
    fields |= _rare_fields(record)
    if record.tried > 1:
        fields["tried"] = record.tried
    fields["up_bytes"] = record.up_bytes
    fields["down_bytes"] = record.down_bytes
    fields["duration"] = round(record.duration, _MICRO)
    fields["ended_by"] = record.ended_by
    fields["during"] = record.during
    fields["reason"] = record.reason
    return fields


_RARE_TIMES = ("waited", "dead_spare", "saved", "lost")
_RARE_FACTS = (
    "client_syn_bytes", "duplicate", "spare", "hedged", "redialled", "repeated_bytes", "retransmits", "detail",
)  # fmt: skip


def _rare_fields(record: SessionRecord) -> dict[str, object]:
    """What most sessions have nothing of."""
    times = {name: round(seconds, _MICRO) for name in _RARE_TIMES if (seconds := getattr(record, name))}
    return {**times, **{name: fact for name in _RARE_FACTS if (fact := getattr(record, name))}}


def _request_fields(record: SessionRecord) -> dict[str, object]:
    """What the client asked for."""
    fields: dict[str, object] = {"mode": record.mode, "asked": round(record.asked, _MICRO)}
    if record.authority is not None:
        fields["authority"] = str(record.authority)
    if record.user is not None:
        fields["user"] = record.user
    if record.reply:
        fields["reply"] = record.reply
    return fields


def session_line(record: SessionRecord, when: float) -> bytes:
    """The record as the logger would write it at ``when`` (seconds since the epoch)."""
    peer, endpoint = record.peer, record.endpoint
    dialled, answered, round_trip = record.dial_time, record.first_byte, record.rtt
    if not (dialled and answered and round_trip) or endpoint is None or not isinstance(peer, tuple):
        return line_of("session", session_fields(record), when)
    key = (
        record.listener, record.cluster, record.protocol, record.open, record.evidence, record.standing_before,
        record.standing_after, record.ended_by, record.during, record.reason,
    )  # fmt: skip
    template = _templates.get(key) or _template(key)
    values = (
        time_of(when), record.number, _host(peer[0]), peer[1], _place(endpoint), _asked(record) if record.mode else "",
        record.early_bytes, record.syn_bytes, _seconds(dialled), _seconds(answered), _seconds(round_trip),
        _rare(record), record.up_bytes, record.down_bytes, _seconds(record.duration),
    )  # fmt: skip
    line = (template % values).encode()
    return line if len(line) <= LONGEST else line_of("session", session_fields(record), when)


_Kind: TypeAlias = tuple[
    str, str, str, str, Evidence | None, State | None, State | None, EndedBy, Stage, Reason
]  # fmt: skip
_MOST_KINDS = 1024
_templates: dict[_Kind, str] = {}


def _template(kind: _Kind) -> str:
    """The line of all sessions of one kind, with gaps for what is a session's own."""
    listener, cluster, protocol, opened, evidence, before, after, ended_by, during, reason = kind
    if len(_templates) >= _MOST_KINDS:
        del _templates[next(iter(_templates))]
    spoken = f',"protocol":"{protocol}"' if protocol else ""
    dial = f',"open":"{opened}","syn_bytes":%d,"evidence":"{evidence}"' if evidence is not None else "%.0s"
    believed = (
        f',"standing_before":{_word(before)},"standing_after":{_word(after)}' if evidence is not None else ""
    )
    template = _templates[kind] = (
        f'{{"time":"%s","level":"info","event":"session","id":"{_PROCESS}-%x","listener":{_fixed(listener)},'
        f'"client":"%s:%d","cluster":{_fixed(cluster)},"endpoint":%s%s,"early_bytes":%d{spoken}{dial}{believed},'
        f'"dial_time":%s,"first_byte":%s,"rtt":%s%s,"up_bytes":%d,"down_bytes":%d,"duration":%s,'
        f'"ended_by":"{ended_by}","during":"{during}","reason":"{reason}"}}'
    )
    return template


def _fixed(text: str) -> str:
    return quoted(text).replace("%", "%%")


def _rare(record: SessionRecord) -> str:
    """What most sessions have nothing of."""
    tried = f',"tried":{record.tried}' if record.tried > 1 else ""
    if not (
        record.waited or record.lost or record.saved or record.detail or record.client_syn_bytes or record.spare
        or record.hedged or record.redialled or record.repeated_bytes or record.retransmits or record.dead_spare
        or record.duplicate
    ):  # fmt: skip
        return tried
    fields = _rare_fields(record)
    rest = "".join([f',"{name}":{_value(value)}' for name, value in fields.items()])
    return f"{rest}{tried}"


def _value(value: object) -> str:
    if isinstance(value, float):
        return _seconds(value)
    return quoted(value) if isinstance(value, str) else encoded(value)


def _asked(record: SessionRecord) -> str:
    """What the client asked for."""
    authority = f',"authority":{_place(record.authority)}' if record.authority is not None else ""
    user = f',"user":{_name(record.user)}' if record.user is not None else ""
    reply = f',"reply":"{record.reply}"' if record.reply else ""
    return f',"mode":"{record.mode}","asked":{_seconds(record.asked)}{authority}{user}{reply}'


def _seconds(seconds: float) -> str:
    """As the encoder writes ``round(seconds, 6)``."""
    text = f"{seconds:.6f}"
    if (
        not ("0.00001" <= text < ":") or len(text) > _EXACT
    ):  # it has exponents there, and words for what is no number
        return encoded(round(seconds, _MICRO))
    if text[-1] != "0":
        return text
    text = text.rstrip("0")
    return text if text[-1] != "." else f"{text}0"


_EXACT = 15  # characters, up to which all digits are the number's own


def _word(word: str | None) -> str:
    return "null" if word is None else f'"{word}"'


_name = lru_cache(4096)(quoted)  # sessions go where others went


@lru_cache(4096)
def _place(place: Endpoint | Target) -> str:
    return quoted(str(place))


@lru_cache(4096)
def _host(host: str) -> str:
    """How the record calls a client's host, as the inside of a JSON string."""
    peer: Peer = (host, 0)
    return quoted(SessionRecord(0, "", peer, "", 0.0).client)[1:-3]
