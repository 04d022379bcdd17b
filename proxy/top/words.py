"""Numbers, times and ends of sessions in few words; the page says them alike."""

from __future__ import annotations

import time

from proxy.admin.views import Session, WarmUp

NOTHING = "–"

_OPENED = {
    "empty_open": "by cookie, no data",
    "cookie_requested": "asked for a cookie",
    "cookie_withheld": "no cookie ever comes",
    "syn_data_not_acked": "SYN data not taken",
    "syn_data_ignored": "SYN data never taken",
    "syn_data_lost": "SYN with data lost",
    "option_lost": "SYN with option lost",
    "syn_ack_lost": "SYN-ACK lost",
    "path_mtu": "SYN too large",
    "refused": "Fast Open refused",
    "silent": "silence after it",
    "answer_dropped": "answer too early",
    "plain": "ordinary handshake",
    "no_handshake": "no handshake",
    "unavailable": "no Fast Open here",
}
_WHO = {"downstream": "client", "upstream": "server"}
_DID = {
    "closed": "hung up",
    "reset": "broke off",
    "vanished": "vanished",
    "refused": "refused",
    "unreachable": "unreachable",
    "net_unreachable": "unreachable",
    "connect_timeout": "did not answer",
}
_FINE = frozenset({"closed", "drain", "lifetime", "taken_over"})


def duration(seconds: float | None) -> str:
    """0.4 ms, 48 ms, 1.2 s, 6m 42s, 3h 12m, 2d 4h."""
    if seconds is None:
        return NOTHING
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds == 0:
        return "0 s"
    if seconds < 0.9995:
        return f"{_digits(seconds * 1e3)} ms"
    if seconds < 59.95:
        return f"{_digits(seconds)} s"
    whole = round(seconds)
    for size, unit, less, lesser in ((86400, "d", 3600, "h"), (3600, "h", 60, "m")):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // less}{lesser}"
    return f"{whole // 60}m {whole % 60}s"


def size(number: float) -> str:
    """17 B, 1.5 KiB, 48 MiB."""
    if number < 1024:
        return f"{number:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        number /= 1024
        if number < 1023.5:
            return f"{_digits(number)} {unit}"
    return f"{_digits(number / 1024)} TiB"


def clock(wall: float) -> str:
    """A time of day here, of seconds since 1970."""
    return time.strftime("%H:%M:%S", time.localtime(wall))


def visible(text: str) -> str:
    """The same without anything that a terminal would obey."""
    return "".join(c if c.isprintable() else "�" for c in text)


def opening(session: Session) -> str:
    """What the first packet carried, and what became of it."""
    if session.open == "spare":
        return "on a ready connection"
    if session.evidence == "syn_data_acked":
        return f"{size(session.syn_bytes)} in the SYN"
    if session.evidence is not None:
        return _OPENED.get(session.evidence, session.evidence)
    return "being opened" if session.is_open else NOTHING


def destination(session: Session) -> str:
    """Where it went; who ended before he said where to has none, whatever the listener's cluster is."""
    named = session.authority or session.endpoint
    return named or ("no destination" if session.during in {"accept", "sniff"} else session.cluster)


def ending(session: Session) -> str:
    """Who ended it and how; where it was cut short, the stage as well."""
    if session.is_open:
        return "open"
    did = _DID.get(session.reason)
    said = f"{_WHO.get(session.ended_by, 'server')} {did}" if did else session.reason.replace("_", " ")
    return said if session.during == "relay" else f"{said} ({session.during})"


def warm_up(one: WarmUp) -> str:
    """How far it has come."""
    found = {
        "cookies fetched": one.fetched,
        "there already": one.held,
        "without Fast Open": one.no_fast_open,
        "lost on the way": one.dropped,
        "unreachable": one.unreachable,
    }
    parts = [f"warm-up: {one.endpoints - one.waiting:,} of {one.endpoints:,} endpoints"]
    parts += [f"{number:,} {words}" for words, number in found.items() if number]
    return f"{', '.join(parts)}, for {duration(one.seconds)}"


def failed(session: Session) -> bool:
    """Whether it ended otherwise than in order."""
    return not session.is_open and (session.during != "relay" or session.reason not in _FINE)


def _digits(number: float) -> str:
    return f"{number:.1f}" if number < 9.95 else f"{number:.0f}"
