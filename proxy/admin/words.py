"""Why an endpoint is dialled as it is, in words for somebody who has never heard of Fast Open."""

from __future__ import annotations

import math
from time import localtime, strftime

from proxy.core.evidence import Evidence
from proxy.core.fastopen import FIRST_SENTENCE, LONGEST_SENTENCE, UNCOUNTED, Standing, State
from proxy.core.pace import NEAR

_DOES = {
    Evidence.SYN_DATA_LOST: "drops SYN data",
    Evidence.OPTION_LOST: "drops SYNs with the Fast Open option",
    Evidence.REFUSED: "resets fast opens",
    Evidence.SILENT: "goes silent after a fast open",
    Evidence.ANSWER_DROPPED: "delivers answers before the SYN-ACK, so that they are dropped",
}
_DID = {
    Evidence.SYN_DATA_LOST: "one SYN with data was lost",
    Evidence.OPTION_LOST: "one SYN with the Fast Open option was lost",
    Evidence.REFUSED: "one fast open was reset while a plain dial got through",
    Evidence.SILENT: "one fast open led to silence while a plain dial was answered",
}


def why(standing: Standing, now: float, wall: float) -> str:
    """One sentence without a full stop; ``now`` is monotonic, ``wall`` seconds since 1970, both of this moment."""
    if standing.rtt is not None and standing.rtt < NEAR and standing.state is not State.QUARANTINED:
        return "so near that there is no round trip to save: dialled plainly"
    match standing.state:
        case State.UNKNOWN:
            return "not fast-opened yet"
        case State.LEARNING:
            return _learning(standing)
        case State.CONFIRMED:
            largest = "" if standing.syn_data is None else f", in SYNs of at most {standing.syn_data} bytes"
            return f"takes data in the SYN{largest}: a round trip less for every connection"
        case State.UNSUPPORTED:
            return f"{_useless(standing)}; {_next(standing, now, wall)}"
        case State.OPTION_DOUBTED | State.DATA_DOUBTED:
            return f"{_DID.get(standing.cause or Evidence.SYN_DATA_LOST)}: chance or a middlebox, the next one tells"
        case State.QUARANTINED:
            return _quarantined(standing, now, wall)
        case State.PROBING:
            return f"{_DOES.get(standing.cause or Evidence.SYN_DATA_LOST)}, or did: one connection is finding out"


def until(standing: Standing, now: float, wall: float) -> float | None:
    """When the next try is due, in seconds since 1970; None where nothing is put off."""
    if standing.state not in {State.QUARANTINED, State.UNSUPPORTED}:
        return None
    return wall + max(standing.until - now, 0.0)


def times(standing: Standing) -> int:
    """How often in a row it was put off; sentences double each time, so from some length on at least so often."""
    if standing.sentence < FIRST_SENTENCE:
        return 0
    return 1 + math.ceil(math.log2(standing.sentence / FIRST_SENTENCE))


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th ..."""
    if number % 100 in {11, 12, 13}:
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def clock(wall: float) -> str:
    """A time of day, in this machine's time zone."""
    return strftime("%H:%M", localtime(wall))


def _learning(standing: Standing) -> str:
    if standing.ignored:
        return f"has a cookie, and did not take the data {_so_often(standing.ignored)}: a stale cookie, or taken out"
    if standing.requested:
        return f"was asked for a cookie {_so_often(standing.requested)}: the next connection shows whether it gave one"
    return "lets the option through; whether it takes data is not known yet"


def _useless(standing: Standing) -> str:
    if standing.ignored >= UNCOUNTED:
        return "gives cookies, and never takes the data"
    return "gives no cookie: it does no Fast Open, or something on the way takes the option out"


def _next(standing: Standing, now: float, wall: float) -> str:
    if standing.until <= now:
        return "the next connection tries again"
    return f"data is tried again at {clock(wall + standing.until - now)}"


def _quarantined(standing: Standing, now: float, wall: float) -> str:
    does = _DOES.get(standing.cause or Evidence.SYN_DATA_LOST, "loses fast opens")
    number = times(standing)
    often = f", {ordinal(number)} time" if number > 1 else ""
    if standing.sentence >= LONGEST_SENTENCE:
        often = f", {ordinal(number)} time or later"
    if standing.until <= now:
        return f"{does}: plain until the next connection has tried again{often}"
    return f"{does}: plain until {clock(wall + standing.until - now)}{often}"


def _so_often(number: int) -> str:
    return "once" if number == 1 else f"{number} times in a row"
