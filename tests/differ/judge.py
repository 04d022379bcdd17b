"""What one run of a scenario is worse in than another: outcome, bytes, ends and time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from proxy.core.replay import safe_prefix
from tests.differ.actors import Ear, Seen, heard, messages
from tests.differ.scenarios import CHANCE, CLIENTS, EARLY, FAR, NAMED, RTT, SAYS, SERVERS, Scenario
from tests.differ.stage import BURST, By, Lane

TOLERANCE = 0.1 * RTT + 0.02
MOST_THAT_PAY = 2  # sessions of an endpoint that may pay for finding out what its path does,
PRICE = 0.25 + 2 * RTT + 0.02  # each no more than this
LATER_PRICE = 1.0  # more, where an endpoint that worked falls silent: docs/decisions/0009
CHANCE_PRICE = 1.5


@dataclass(frozen=True, slots=True)
class Complaint:
    """One way in which `ours` is worse than `theirs`, in one session (0 is the first)."""

    ours: By
    theirs: By
    session: int
    what: str  # outcome, bytes, up_bytes, end, server_end, twice, and granted, first, complete, denied, noticed: times
    text: str

    def __str__(self) -> str:
        return f"{self.ours} against {self.theirs}, session {self.session + 1}: {self.what}: {self.text}"


def compare(ours: Lane, theirs: Lane, direct: Lane) -> list[Complaint]:
    """Everything that is worse in the first of two lanes of the same scenario.

    What the second makes of a session counts only where its client got what a direct one did.
    """
    found: list[Complaint] = []
    late: list[tuple[int, float, Complaint]] = []
    for number, (mine, other, truth) in enumerate(
        zip(ours.sessions, theirs.sessions, direct.sessions, strict=False)
    ):
        if theirs.by is By.PEER and not _is_as_good(ours.scenario, other[0], truth[0]):
            continue

        def complaint(what: str, text: str, number: int = number) -> Complaint:
            return Complaint(ours.by, theirs.by, number, what, text)

        different = _differences(ours.scenario, theirs.by, mine, other)
        as_direct = {"bytes"} if mine[0].received == truth[0].received else set[str]()
        as_direct |= {"end"} if mine[0].end == truth[0].end else set[str]()
        found += [complaint(what, text) for what, text in different if what not in as_direct]
        for what, more, text in _delays(ours.scenario, theirs.by, mine, other):
            late.append((number, more, complaint(what, text)))
    found += _too_late(ours.scenario, late, min(len(ours.sessions), len(theirs.sessions)))
    return found


def _is_as_good(scenario: Scenario, seen: Seen, truth: Seen) -> bool:
    ends = scenario.is_http or not SERVERS[scenario.server].listens or seen.end == truth.end
    return ends and seen.received == truth.received and bool(seen.denied) <= bool(truth.denied)


def _too_late(
    scenario: Scenario, late: Sequence[tuple[int, float, Complaint]], sessions: int
) -> list[Complaint]:
    """Of the delays, those that are more than the price of finding out."""
    if scenario.path in CHANCE:
        return [one for _, more, one in late if more > CHANCE_PRICE]
    price = PRICE * (2 if scenario.is_http and CLIENTS[scenario.client].again else 1)
    if scenario.path.startswith("later"):
        price += LATER_PRICE
    last = sessions - (BURST if scenario.load == "burst" else 1)
    payers = sorted({number for number, _, _ in late})
    may_pay = [number for number in payers if number < last][:MOST_THAT_PAY]
    return [one for number, more, one in late if number not in may_pay or more > price]


def _differences(
    scenario: Scenario, by: By, mine: tuple[Seen, list[Ear]], other: tuple[Seen, list[Ear]]
) -> Iterator[tuple[str, str]]:
    seen, reference = mine[0], other[0]
    if seen.denied and not reference.denied:
        yield "outcome", f"{seen.denied}; there: {_outcome(reference)}"
        return
    early = scenario.end in EARLY or (scenario.is_http and not reference.received)
    if not early and reference.received != seen.received and not reference.denied:
        yield "bytes", f"{_digest(seen.received)}; there: {_digest(reference.received)}"
    if _end_matters(scenario) and reference.end != seen.end and not reference.denied:
        yield "end", f"{seen.end or 'none'}; there: {reference.end or 'none'}"
    yield from _at_the_server(scenario, mine[1], other[1], by)


def _end_matters(scenario: Scenario) -> bool:
    """Whether the client must see the end that it sees there."""
    if scenario.is_http:
        return False  # a proxy may keep a client's connection or not
    if scenario.end in EARLY:
        return False
    return SERVERS[scenario.server].listens


def _at_the_server(
    scenario: Scenario, ears: list[Ear], reference: list[Ear], by: By
) -> Iterator[tuple[str, str]]:
    said = [_heard(scenario, ear) for ear in ears]
    wanted = [_heard(scenario, ear) for ear in reference]
    soon = scenario.end.endswith("soon") or SERVERS[scenario.server].first  # it may not come to that
    if scenario.is_http:
        if not CLIENTS[scenario.client].extra:
            yield from _requests_at_the_server(said, wanted, by)
        return
    if wanted and max(wanted, key=len) != max(said, key=len, default=b"") and not soon:
        there = _digest(max(wanted, key=len))
        yield "up_bytes", f"{[_digest(data) for data in said]}; there: {there}"
    limit = safe_prefix(SAYS[scenario.says])
    whole = [data for data in said if len(data) > limit]
    if (
        len(whole) > 1
        and len([data for data in wanted if len(data) > limit]) <= 1
        and scenario.way != "tunnel"
    ):
        yield "twice", f"{[_digest(data) for data in said]}, of which {limit} may come twice"
    gateway = scenario.way in FAR and by is not By.OFF
    if not reference or not ears or gateway or scenario.end.endswith("soon"):
        return
    ended, expected = _main(ears).ended, _main(reference).ended
    if expected and ended != expected and not (by is By.PEER and expected == "eof"):
        yield "server_end", f"{ended or 'still open'}; there: {expected}"


def _requests_at_the_server(said: list[bytes], wanted: list[bytes], by: By) -> Iterator[tuple[str, str]]:
    """A proxy may spread requests over connections and repeat a GET: what is missing, and what is done twice."""
    mine, there = b"".join(said), b"".join(wanted)
    for method in (b"GET", b"POST"):
        count, expected = mine.count(method + b" /"), there.count(method + b" /")
        if count < expected and by is not By.PEER:
            yield "up_bytes", f"{count} {method.decode()}; there: {expected}"
        if count > expected and method == b"POST":
            yield "twice", f"{count} POST; there: {expected}"


def _delays(
    scenario: Scenario, by: By, mine: tuple[Seen, list[Ear]], other: tuple[Seen, list[Ear]]
) -> Iterator[tuple[str, float, str]]:
    """What took longer, how much, in words."""
    if _takes_its_own_time(scenario, by, mine[0], other[0]):
        return
    tolerance = TOLERANCE + 2 * (mine[0].lag + other[0].lag)
    for what, time, there in _moments(scenario, by, mine, other):
        if time is not None and there is not None and (more := time - there) > tolerance:
            yield what, more, f"{1000 * time:.0f} ms; there: {1000 * there:.0f} ms"


def _takes_its_own_time(scenario: Scenario, by: By, seen: Seen, reference: Seen) -> bool:
    """Whether the time that was taken there says nothing of ours."""
    client = CLIENTS[scenario.client]
    if by is By.OFF:
        return False
    if scenario.way in FAR:
        return True  # a gateway's handshake
    if seen.denied and reference.denied and len(scenario.addresses) > 1:
        return True  # the other may have tried fewer of the addresses
    return (
        scenario.is_http and by is By.DIRECT and (client.again or bool(client.extra))
    )  # kept or not: a proxy decides


def _moments(
    scenario: Scenario, by: By, mine: tuple[Seen, list[Ear]], other: tuple[Seen, list[Ear]]
) -> Iterator[tuple[str, float | None, float | None]]:
    seen, reference = mine[0], other[0]
    yield "first", seen.first, reference.first
    yield "complete", seen.complete, reference.complete
    if by is not By.DIRECT and scenario.way in NAMED:
        yield "granted", seen.granted, reference.granted
    if seen.denied and reference.denied:
        yield "denied", seen.end_at or seen.left, reference.end_at or reference.left
    elif not scenario.is_http and scenario.end not in ("client_fin", "client_rst"):
        yield "end", seen.end_at, reference.end_at
    if scenario.end.startswith("client_"):
        yield "noticed", _noticed(mine), _noticed(other)


def _noticed(session: tuple[Seen, list[Ear]]) -> float | None:
    """How long after the client's end its server saw it."""
    seen, ears = session
    if not ears:
        return None
    ear = _main(ears)
    if ear.ended_at is None:
        return None
    return max(0.0, ear.ended_at - (seen.began + seen.left))


def _main(ears: list[Ear]) -> Ear:
    """The conversation that was the session's in the end: the one that got most, and of these the last to end."""
    return max(ears, key=lambda ear: (len(ear.received), ear.ended_at or 0.0))


def _heard(scenario: Scenario, ear: Ear) -> bytes:
    """What a server got, without what a proxy may change: the PROXY header, and heads of requests."""
    data = heard(scenario, bytes(ear.received))
    if not scenario.is_http:
        return data
    found, rest = messages(data)
    parts = [b" ".join(one.split(b" ", 2)[:2]) + b"|" + one.partition(b"\r\n\r\n")[2] for one in found]
    return b"".join(parts) + (rest and b"+" + rest)


def _outcome(seen: Seen) -> str:
    return seen.denied or f"{len(seen.received)} bytes, {seen.end or 'open'}"


def _digest(data: bytes) -> str:
    return f"{len(data)} B {hashlib.sha256(data).hexdigest()[:6]}" if data else "nothing"


def sessions_of(scenario: Scenario) -> int:
    """How many sessions a lane runs: enough for the last one to know the path, and few where each takes long."""
    if scenario.path.startswith("later"):
        return 6
    return 3 if SERVERS[scenario.server].then == "nothing" else 4
