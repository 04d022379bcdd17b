"""Session lines joined with connections, and what both disagree about."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, cast

from proxy.core.address import BadAddress, split_host_port
from proxy.explain.connections import Connection, Flow, connections
from proxy.lab.packets import Packet

Line: TypeAlias = Mapping[str, object]

CLOCKS = 0.02  # seconds that the program may notice a packet late
SHARE = 0.05  # of a time, by which the log's and the packets' may differ
_NEAREST = 1.0  # seconds between a dial and its SYN at most


@dataclass(slots=True)
class Dialled:
    """One dial as its line tells it, and its connection in the capture."""

    told: Mapping[str, object]
    when: float
    connection: Connection | None


@dataclass(slots=True)
class Explained:
    """One session: its line, its dials, and what its line and its packets disagree about."""

    line: Line
    start: float
    dials: list[Dialled]
    disagreements: list[str]
    gain: float | None  # seconds saved (below 0: lost), by the packets; None where they do not tell

    def text(self) -> str:
        """For people."""
        line = self.line
        words = " ".join(f"{name}={line[name]}" for name in _SHOWN if name in line)
        lines = [f"session {line.get('id')} at {line.get('start')}: {words}"]
        for dial in self.dials:
            told = dial.told
            lines.append(
                f"  {told.get('local', 'no address')} → {told.get('endpoint')} {told.get('open')}, "
                f"{told.get('why', 'first')}: {told.get('result', 'used')}"
            )
            lines += [
                f"    {one}"
                for one in (dial.connection.story(self.start) if dial.connection else ["not captured"])
            ]
        lines += [f"  DISAGREES: {one}" for one in self.disagreements] or ["  agrees"]
        return "\n".join(lines)


_SHOWN = (
    "evidence",
    "open",
    "syn_bytes",
    "first_byte",
    "saved",
    "lost",
    "hedged",
    "redialled",
    "ended_by",
    "reason",
)


def session_lines(log: Iterable[str]) -> list[Line]:
    """The session lines of a JSON log; anything else in it is passed over."""
    found: list[Line] = []
    for text in log:
        if '"event":"session"' in text:
            try:
                found.append(cast("Line", json.loads(text)))
            except ValueError:
                continue
    return found


def explain(
    packets: Sequence[tuple[float, Packet]], lines: Iterable[Line], within: float = CLOCKS
) -> list[Explained]:
    """Every session that dialled, with its packets. A session from before or after the capture is left out.

    ``within``: seconds by which times may differ, since a busy program notices a packet late.
    """
    found = connections(packets)
    if not packets:
        return []
    first, last = packets[0][0], packets[-1][0]
    explained: list[Explained] = []
    for line in lines:
        if "start" not in line or "dial_start" not in line:
            continue
        start = datetime.fromisoformat(str(line["start"])).timestamp()
        if not first - CLOCKS <= start + _number(line, "dial_start") <= last + CLOCKS:
            continue
        dials = [_dialled(found, told, start + _number(told, "at")) for told in _dials(line)]
        if all(not isinstance(dial.told.get("local"), str) for dial in dials):
            continue  # a unix socket
        used = _used(dials)
        gain = None if "first_byte" not in line or used is None else _gain(line, dials, used)
        explained.append(Explained(line, start, dials, _disagreements(line, start, dials, within), gain))
    return explained


def unclaimed(packets: Iterable[tuple[float, Packet]], sessions: Iterable[Explained]) -> list[Connection]:
    """Connections to the sessions' endpoints that belong to none of them: health checks, warm-ups, spares, others'."""
    claimed: set[tuple[tuple[str, int], tuple[str, int], int]] = set()
    endpoints: set[tuple[str, int]] = set()
    for session in sessions:
        for dial in session.dials:
            if dial.connection is not None:
                claimed.add(dial.connection.key)
                endpoints.add(dial.connection.remote)
    found = [one for known in connections(packets).values() for one in known]
    return [one for one in found if one.remote in endpoints and one.key not in claimed]


def _dials(line: Line) -> list[Mapping[str, object]]:
    listed = line.get("dials")
    if isinstance(listed, list):
        return cast("list[Mapping[str, object]]", listed)
    failed = line.get("evidence") == "no_handshake"
    only: dict[str, object] = {
        "local": line.get("local"), "endpoint": line.get("endpoint"), "open": line.get("open"), "why": "first",
        "at": line.get("dial_start"), "syn_bytes": line.get("syn_bytes", 0),
        "result": line.get("reason") if failed else "won",
    }  # fmt: skip
    return [only]


def _dialled(found: Mapping[Flow, list[Connection]], told: Mapping[str, object], when: float) -> Dialled:
    local, endpoint = _place(told.get("local")), _place(told.get("endpoint"))
    candidates = found.get((*local, *endpoint), []) if local and endpoint else []
    if told.get("open") == "spare":  # dialled some time before
        before = [one for one in candidates if one.syns[0] <= when + CLOCKS]
        return Dialled(told, when, before[-1] if before else None)
    times = [one.syns[0] for one in candidates]
    at = bisect_left(times, when)
    near = sorted(candidates[max(at - 1, 0) : at + 1], key=lambda one: abs(one.syns[0] - when))
    return Dialled(told, when, near[0] if near and abs(near[0].syns[0] - when) < _NEAREST else None)


def _place(text: object) -> tuple[str, int] | None:
    if not isinstance(text, str):
        return None
    try:
        host, port = split_host_port(text)
    except BadAddress:
        return None
    return host, port


def _number(line: Mapping[str, object], name: str) -> float:
    value = line.get(name, 0.0)
    return float(value) if isinstance(value, int | float) else 0.0


def _differ(told: float, seen: float, within: float) -> bool:
    return abs(told - seen) > max(within, SHARE * abs(seen))


def _disagreements(line: Line, start: float, dials: Sequence[Dialled], within: float) -> list[str]:
    """What the line says otherwise than the packets, field by field."""
    found: list[str] = []
    for dial in dials:
        if isinstance(dial.told.get("local"), str):
            found += _about_dial(dial)
    used = _used(dials)
    why = {dial.told.get("why") for dial in dials}
    for name, is_so in (("hedged", bool(why & {"hedge", "doubt"})), ("redialled", "redial" in why)):
        if bool(line.get(name)) is not is_so:
            found.append(f"{name}: the line says {bool(line.get(name))}, its dials {is_so}")
    if any(dial.connection is None for dial in dials):
        return found
    fast = _fast_open(dials, used)
    if fast is not None and fast.connection is not None:
        possible = _evidence(fast, used)
        if line.get("evidence") not in possible:
            found.append(
                f"evidence: the line says {line.get('evidence')}, the packets {' or '.join(sorted(possible))}"
            )
        if fast.told.get("open") != "spare" and int(_number(line, "syn_bytes")) != fast.connection.syn_bytes:
            told = int(_number(line, "syn_bytes"))
            found.append(f"syn_bytes: the line says {told}, the packets {fast.connection.syn_bytes}")
        acked = fast.connection.acked
        part = acked if fast is used and 0 < acked < fast.connection.syn_bytes else 0
        if fast is dials[0] and int(_number(line, "syn_acked")) != part:
            found.append(f"syn_acked: the line says {line.get('syn_acked', 0)}, the packets {part}")
    return found + _about_answer(line, start, dials, used, within)


def _used(dials: Sequence[Dialled]) -> Dialled | None:
    return next((dial for dial in dials if dial.told.get("result") == "won"), None)


def _about_dial(dial: Dialled) -> list[str]:
    told, connection = dial.told, dial.connection
    if connection is None:
        return [f"local: there is no SYN from {told.get('local')} to {told.get('endpoint')} at that time"]
    found: list[str] = []
    opened, result, carried = told.get("open"), told.get("result"), int(_number(told, "syn_bytes"))
    if opened != "spare":
        if carried != connection.syn_bytes:
            found.append(f"syn_bytes: the dial's are {carried}, the packets say {connection.syn_bytes}")
        if opened != ("plain" if connection.cookie is None else opened):
            found.append(f"open: the line says {opened}, and the SYN has no Fast Open option")
        if opened in {"plain", "empty"} and connection.syn_bytes:
            found.append(f"open: the line says {opened}, and the SYN has {connection.syn_bytes} bytes")
        if opened == "plain" and connection.cookie is not None:
            found.append("open: the line says plain, and the SYN has a Fast Open option")
    if result in {"won", "silent"} and connection.syn_ack is None:
        found.append(f"dials: the line says {result}, and there was no SYN-ACK")
    if result == "refused" and connection.refused is None and not connection.unreachable:
        found.append("dials: the line says refused, and no RST came for the SYN")
    return found


def _fast_open(dials: Sequence[Dialled], used: Dialled | None) -> Dialled | None:
    """The dial that ``evidence`` is about: the first one to the endpoint that was used, or dialled last."""
    last = used or dials[-1]
    if last.told.get("why") == "rival":
        return last
    same = (dial for dial in dials if dial.told.get("endpoint") == last.told.get("endpoint"))
    return next((dial for dial in same if dial.told.get("open") != "spare" or dial is used), None)


def _evidence(fast: Dialled, used: Dialled | None) -> set[str]:
    """What `evidence` may be by the packets."""
    seen = fast.connection
    assert seen is not None
    if used is None:
        return {"no_handshake"}
    if seen.cookie is None or fast.told.get("open") == "spare":
        return {"plain", "unavailable"}
    if used is not fast:
        why = used.told.get("why")
        if why == "redial" and seen.syn_ack is None:
            return {"refused"}
        if why == "hedge":
            # One that was given up: on a path longer than a second its answer may only have been late.
            late = {"syn_ack_lost"} if fast.told.get("result") == "connect_timeout" else set[str]()
            lost = {"syn_data_lost" if seen.syn_bytes else "option_lost"}
            return {"refused"} if seen.refused else lost | late
        if seen.overtook is not None:
            return {"answer_dropped"}
        answered = used.connection is not None and used.connection.answer is not None
        if answered and seen.answer is None:
            return {"silent"}
        return {"silent", *_of_handshake(seen)} if answered else _of_handshake(seen)
    return _of_handshake(seen)


def _of_handshake(seen: Connection) -> set[str]:
    if seen.syn_ack is None:
        return {"no_handshake"}
    repeated = [when for when in seen.syns[1:] if when < seen.syn_ack]
    if seen.overtook is not None and (not seen.syn_bytes or seen.acked >= seen.syn_bytes):
        return {"answer_dropped"}
    if seen.syn_bytes and seen.acked >= seen.syn_bytes:
        return {"syn_data_acked"}
    if repeated and seen.too_big:
        return {"path_mtu"}
    if repeated and seen.answers_first:
        return {"syn_ack_lost"}
    if repeated:
        return {"syn_data_lost" if seen.syn_bytes else "option_lost"}
    if seen.syn_bytes:
        return {"syn_data_not_acked", "syn_data_ignored"}
    return {"empty_open"} if seen.cookie else {"cookie_requested", "cookie_withheld"}


def _about_answer(
    line: Line, start: float, dials: Sequence[Dialled], used: Dialled | None, within: float
) -> list[str]:
    """The first byte, how long the handshake took, the bytes that came, and what was saved or lost."""
    found: list[str] = []
    first_byte, connection = line.get("first_byte"), None if used is None else used.connection
    over = start + _number(line, "duration") + CLOCKS
    answer = None if connection is None else connection.answer
    if first_byte is None and answer is not None and answer < over - 2 * CLOCKS:
        # A client that has gone reads no more, and neither do we.
        if line.get("ended_by") == "upstream":
            found.append(f"first_byte: none in the line, and the answer came after {answer - start:.4f} s")
    elif isinstance(first_byte, float) and answer is None:
        found.append("first_byte: the server has not sent a byte")
    elif isinstance(first_byte, float) and answer is not None and _differ(first_byte, answer - start, within):
        banner = used is not None and used.told.get("open") == "spare"
        if not banner:
            found.append(f"first_byte: the line says {first_byte} s, the packets {answer - start:.6f} s")
    if connection is None or used is None:
        return found + [
            f"{name}: without a connection there is none" for name in ("saved", "lost") if name in line
        ]
    if connection.received < int(_number(line, "down_bytes")):
        found.append(f"down_bytes: the line says {line.get('down_bytes')}, the packets {connection.received}")
    if used.told.get("open") != "spare" and connection.syn_ack is not None:
        took = connection.syn_ack - (_first_to(dials, used)).syns[0]
        if (
            "dial_time" in line
            and used.told.get("why") != "doubt"
            and _differ(_number(line, "dial_time"), took, within)
        ):
            found.append(f"dial_time: the line says {line['dial_time']} s, the packets {took:.6f} s")
    return found + _about_gain(line, dials, used, within)


def _first_to(dials: Sequence[Dialled], used: Dialled) -> Connection:
    if used.told.get("why") == "rival":
        first = dials[0].connection
    else:
        first = next(
            dial.connection for dial in dials if dial.told.get("endpoint") == used.told.get("endpoint")
        )
    assert first is not None
    return first


def _about_gain(line: Line, dials: Sequence[Dialled], used: Dialled, within: float) -> list[str]:
    told = _number(line, "saved") - _number(line, "lost")
    connection = used.connection
    assert connection is not None
    if "first_byte" not in line:
        return [f"{name}: there was no answer" for name in ("saved", "lost") if name in line]
    seen = _gain(line, dials, used)
    if seen is not None and _differ(told, seen, within):
        return [f"saved, lost: the line says {told:+.6f} s, the packets {seen:+.6f} s"]
    return []


def _gain(line: Line, dials: Sequence[Dialled], used: Dialled) -> float | None:
    """Seconds by which the answer came sooner than after a plain dial; None where the packets do not tell."""
    connection = used.connection
    if connection is None or any(dial.connection is None for dial in dials):
        return None
    if used.told.get("open") == "spare" or connection.took is None or connection.answer is None:
        return None  # when it would have been dialled is not in the packets
    began = _first_to(dials, used).syns[0] - _number(line, "waited")
    repeated = len(connection.syns) > 1
    trip = connection.took
    if repeated:
        trip = min(trip, _number(line, "rtt") or trip)
    costly = (
        repeated
        and used.told.get("why") == "first"
        and line.get("evidence") in {"syn_data_lost", "option_lost", "path_mtu"}
    )
    plain = began + (trip if costly or not repeated else connection.took)
    assert connection.syn_ack is not None
    if connection.overtook is not None:
        return plain + trip - connection.answer
    if line.get("early_bytes"):
        spoke = began + _number(line, "waited")
        left = connection.sent if connection.sent is not None else connection.syn_ack
        if connection.sent == connection.syns[0] and repeated:
            left = connection.syn_ack - trip
        if (
            connection.syn_bytes
            and connection.syn_bytes < int(_number(line, "early_bytes"))
            and connection.answer - connection.syn_ack > trip / 2
        ):
            left = max(left, connection.syn_ack)
        return max(spoke, plain) - max(spoke, left)
    first_sent = next(
        (when for when, ours, packet in connection.packets if ours and packet.payload_length), None
    )
    if first_sent is not None and first_sent <= connection.answer:
        if line.get("reply") == "dialed":
            return plain - connection.syn_ack  # it spoke as soon as it was told
        return None if first_sent - connection.syn_ack < CLOCKS else 0.0  # the client spoke when it liked
    early = bool(connection.cookie) and not connection.new_cookie
    return plain - (connection.syn_ack - trip if early else connection.syn_ack)
