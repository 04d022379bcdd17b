"""What is counted, as metrics: every name, its labels and its meaning. docs/metrics.md is made from the same words."""

from __future__ import annotations

from typing import NamedTuple

from proxy.core.account import FIRST_BYTE_BOUNDS
from proxy.core.evidence import Evidence
from proxy.telemetry.exposition import Exposition
from proxy.telemetry.region import DURATION_BOUNDS, OfListener, OfProcess, OfWay
from proxy.telemetry.sums import Numbers, Sums, histogram


class Counted(NamedTuple):
    """One slot as a counter."""

    slot: OfWay
    name: str
    meaning: str


OF_WAYS = (
    Counted(OfWay.SESSIONS, "sessions_total", "Sessions that have ended."),
    Counted(OfWay.FAILED, "sessions_failed_total", "Of these, sessions that never reached a server."),
    Counted(OfWay.UP_BYTES, "up_bytes_total", "Bytes from clients to servers."),
    Counted(OfWay.DOWN_BYTES, "down_bytes_total", "Bytes from servers to clients."),
    Counted(OfWay.ROUND_TRIPS_SAVED, "saved_round_trips_total", "Round trips that sessions were spared."),
    Counted(OfWay.SECONDS_SAVED, "saved_seconds_total", "Seconds that sessions were spared."),
    Counted(
        OfWay.SECONDS_LOST,
        "lost_seconds_total",
        "Seconds that trying cost: waits, hedges, redials, SYNs that had to be repeated.",
    ),
    Counted(
        OfWay.ROUND_TRIPS_SAVED_BY_SPARES,
        "saved_by_spares_round_trips_total",
        "Of the round trips saved, those that spare connections saved.",
    ),
    Counted(
        OfWay.SECONDS_SAVED_BY_SPARES,
        "saved_by_spares_seconds_total",
        "Of the seconds saved, those that spare connections saved.",
    ),
    Counted(OfWay.HEDGES, "hedges_total", "Plain dials that began beside a silent one."),
    Counted(OfWay.REDIALS, "redials_total", "Plain dials after a fast open that was refused."),
    Counted(OfWay.REPEATED_BYTES, "repeated_bytes_total", "Early bytes sent twice, all of them safe to be."),
    Counted(OfWay.DUPLICATES, "duplicate_syns_total", "Sessions that began with a SYN that had come before."),
    Counted(OfWay.ON_SPARES, "spares_used_total", "Sessions carried by a connection that was ready."),
    Counted(OfWay.DEAD_SPARES, "spares_dead_total", "Sessions whose spare the server had closed."),
    Counted(OfWay.WAITS, "first_byte_waits_total", "Sessions that waited for the client's first bytes."),
    Counted(OfWay.WAIT_SECONDS, "first_byte_wait_seconds_total", "Seconds of such waits."),
    Counted(
        OfWay.WAIT_TIMEOUTS, "first_byte_wait_timeouts_total", "Such waits in which the client said nothing."
    ),
)

_FIRST_BYTES = (
    ("fast_open", OfWay.FIRST_BYTE_FAST),
    ("plain", OfWay.FIRST_BYTE_PLAIN),
    ("spare", OfWay.FIRST_BYTE_SPARE),
)


def expose(sums: Sums, out: Exposition) -> None:
    """Everything that workers count."""
    _expose_listeners(sums, out)
    ways = [({"listener": listener, "upstream": cluster}, n) for (listener, cluster), n in sums.ways.items()]
    ways = [(labels, numbers) for labels, numbers in ways if labels != _UNUSED or numbers[OfWay.SESSIONS]]
    for slot, name, meaning in OF_WAYS:
        out.family(name, "counter", meaning)
        for labels, numbers in ways:
            out.sample(numbers[slot], labels)
    out.family("dials_total", "counter", "Sessions by what the handshake with the server showed.")
    for labels, numbers in ways:
        for number, evidence in enumerate(Evidence):
            out.sample(numbers[OfWay.EVIDENCE + number], {**labels, "evidence": evidence})
    _expose_times(ways, out)
    out.family("endings_total", "counter", "Sessions by who ended them, in which stage, and why.")
    for (listener, cluster), endings in sums.endings.items():
        for (ended_by, during, reason), sessions in endings.items():
            ending = {"ended_by": ended_by, "during": during, "reason": reason}
            out.sample(sessions, {"listener": listener, "upstream": cluster, **ending})
    _expose_processes(sums, out)


def _expose_processes(sums: Sums, out: Exposition) -> None:
    numbers = sums.processes
    out.family(
        "log_lines_lost_total", "counter", "Log lines that could not be written, or waited for too long."
    )
    out.sample(numbers[OfProcess.LOG_LINES_LOST])
    out.family(
        "loop_stalls_total",
        "counter",
        "Times that the event loop of a process was busy, blocked or not scheduled for more than 50 ms.",
    )
    out.sample(numbers[OfProcess.LOOP_STALLS])
    out.family("loop_stalled_seconds_total", "counter", "How long these took.")
    out.sample(numbers[OfProcess.STALLED_SECONDS])
    out.family(
        "loop_longest_stall_seconds", "gauge", "The longest of them, of all processes since the start."
    )
    out.sample(numbers[OfProcess.LONGEST_STALL])


# A cluster is labelled `upstream`: many a Prometheus has a label `cluster` of its own, and would rename ours.
_UNUSED = {"listener": "other", "upstream": "other"}


def _expose_listeners(sums: Sums, out: Exposition) -> None:
    listeners = {name: numbers for name, numbers in sums.listeners.items() if name != "other" or any(numbers)}
    out.family("connections_total", "counter", "Connections that clients made, those refused included.")
    for name, numbers in listeners.items():
        out.sample(numbers[OfListener.CONNECTIONS], {"listener": name})
    out.family("open_sessions", "gauge", "Sessions that are open.")
    for name, numbers in listeners.items():
        out.sample(numbers[OfListener.OPEN], {"listener": name})
    out.family("refused_total", "counter", "Connections and sessions that were not served, by reason.")
    for (name, reason), number in sums.refused.items():
        out.sample(number, {"listener": name, "reason": reason})


def _expose_times(ways: list[tuple[dict[str, str], Numbers]], out: Exposition) -> None:
    out.family("session_duration_seconds", "histogram", "From accepted to ended.")
    for labels, numbers in ways:
        total, counts = histogram(numbers, OfWay.DURATION, len(DURATION_BOUNDS) + 1)
        out.histogram(DURATION_BOUNDS, counts, total, labels)
    out.family(
        "first_byte_seconds",
        "histogram",
        "From accepted to the server's first byte, with Fast Open and without.",
    )
    for labels, numbers in ways:
        for way, start in _FIRST_BYTES:
            total, counts = histogram(numbers, start, len(FIRST_BYTE_BOUNDS) + 1)
            if way != "spare" or any(counts):
                out.histogram(FIRST_BYTE_BOUNDS, counts, total, {**labels, "way": way})
