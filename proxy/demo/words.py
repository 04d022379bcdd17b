"""What each connection came to, in sentences; and all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxy.demo.play import Played
from proxy.demo.scenes import Scene
from proxy.demo.story import Run

WORTH = 0.4  # round trips: less than that is the machine's doing

_EVIDENCE = {
    "syn_data_acked": "The {first} travelled in the SYN, and the server took it: a round trip saved.",
    "empty_open": "The SYN brought the cookie and no data{at_once}.",
    "cookie_requested": "No cookie yet: this SYN asked for one.",
    "cookie_withheld": "A cookie was asked for, and none ever comes.",
    "syn_data_not_acked": "The data in the SYN was not taken; it went again after the handshake, and no time was lost.",
    "syn_data_ignored": "The data in the SYN was not taken, once more: it is no use here.",
    "syn_data_lost": "The SYN with the {first} got lost.",
    "option_lost": "The SYN with the Fast Open option got lost.",
    "refused": "The SYN with the {first} was refused.",
    "silent": "The handshake went through, and then nothing came.",
    "syn_ack_lost": "The server's answer got lost; that is not Fast Open's fault.",
    "path_mtu": "The SYN was too large for the path: the next ones are smaller.",
    "answer_dropped": "The answer came before the SYN-ACK, and the kernel dropped it.",
    "plain": "Dialled plainly{because}.",
    "no_handshake": "No handshake came about, a plain one neither.",
    "unavailable": "This kernel does no Fast Open now: dialled plainly.",
}
_BECAUSE = {
    "quarantined": ": this server is in quarantine",
    "unsupported": ": there is no Fast Open to this server",
    "option_doubted": ": one loss has been seen, and another dial is finding out",
    "data_doubted": ": one loss has been seen, and another dial is finding out",
}
_SECOND = " The second loss in a row: from here on plainly, until a probe says otherwise."
_SECOND_MEANWHILE = " Meanwhile a second loss was seen: from here on plainly, until a probe says otherwise."
_RESCUED = " A plain dial that had started beside it carried the session."
_NOT_NEEDED = " A plain dial started beside it, and was not needed."
_REDIALLED = " One plain dial more, and it went through."


@dataclass(frozen=True, slots=True)
class Result:
    """The whole in numbers, all in round trips; None: nothing came. ``paid`` is what finding out cost, connection by
    connection, beyond a plain one; ``settled`` how it goes in the end.
    """

    plain: float | None
    through: tuple[float | None, ...]
    settled: float | None
    trusting: tuple[float | None, ...]

    @classmethod
    def of(cls, played: Played) -> Result:
        """From what was seen on the wire."""
        trips = played.round_trips
        return cls(
            trips(played.plain.first_byte),
            tuple(trips(run.first_byte) for run in played.through),
            trips(played.settled.first_byte),
            tuple(trips(seconds) for seconds in played.trusting),
        )

    @property
    def paid(self) -> tuple[float, ...]:
        """What connections through the proxy waited longer than a plain one; only what is worth a word."""
        if self.plain is None:
            return ()
        return tuple(one - self.plain for one in self.through if one is not None and one - self.plain > WORTH)

    @property
    def faster(self) -> bool:
        """Whether in the end the proxy saves something."""
        return self.judged(self.settled) == "less"

    def judged(self, trips: float | None) -> str:
        """A time beside that of a plain connection: less, more, or even."""
        if trips is None or self.plain is None:
            return "even"
        more = trips - self.plain
        return "less" if more < -WORTH else "more" if more > WORTH else "even"

    @property
    def headline(self) -> str:
        """Before and after: what a plain connection takes, and in the end one through the proxy."""
        if self.plain is None is self.settled:
            return "no answer, with and without"
        return f"{number(self.plain)} → {number(self.settled)} round trips"

    @property
    def footnote(self) -> str:
        """What else is to be said."""
        failed = sum(one is None for one in self.through)
        if failed and self.plain is not None:
            return f"{failed} of {len(self.through)} connections got no answer."
        if failed:
            return "Nobody gets through here, with or without a proxy."
        paid = self.paid
        if not paid:
            return "No connection waited noticeably longer than a plain one."
        said = list(dict.fromkeys(map(number, paid)))
        cost = " and ".join([", ".join(said[:-1]), said[-1]] if said[1:] else said)
        trips = "round trip" if cost == "1.0" else "round trips"
        if len(paid) == 1:
            return f"One connection paid {cost} {trips} for finding out; no connection failed."
        each = "" if said[1:] else " each"
        many = _COUNT.get(len(paid), str(len(paid)))
        return f"{many} connections paid {cost} {trips}{each} for finding out; none failed."


_COUNT = {2: "Two", 3: "Three", 4: "Four", 5: "Five"}


def number(trips: float | None) -> str:
    """Round trips with one decimal; a cross where nothing came."""
    return "✗" if trips is None else f"{trips:.1f}"


def sentence(run: Run, scene: Scene) -> str:
    """What became of one connection through the proxy, from its log line."""
    session: Mapping[str, object] = run.session
    evidence = str(session.get("evidence", ""))
    if evidence not in _EVIDENCE:
        return f"It ended with {session.get('reason', 'nothing')}."
    because = _BECAUSE.get(str(session.get("standing_before")), "")
    text = _EVIDENCE[evidence].format(
        first="first bytes" if scene.server_first else "request",
        because=because,
        at_once=": the server could speak at once" if scene.server_first else "",
    )
    if session.get("hedged"):
        text += _RESCUED if run.rescued else _NOT_NEEDED
    if session.get("redialled"):
        text += _REDIALLED
    if scene.tunnel:
        text = text.replace("the server took it", "the far proxy took it")
    if session.get("standing_after") == "quarantined" != session.get("standing_before"):
        text += _SECOND_MEANWHILE if evidence == "plain" else _SECOND
    return text


def sentences(runs: Sequence[Run], scene: Scene) -> list[tuple[str, str]]:
    """Each connection's number and sentence; neighbours that went alike together, as "2-4"."""
    found: list[tuple[int, int, str]] = []
    for at, run in enumerate(runs, 1):
        said = sentence(run, scene)
        if found and found[-1][2] == said:
            found[-1] = (found[-1][0], at, said)
        else:
            found.append((at, at, said))
    return [(str(first) if first == last else f"{first}-{last}", said) for first, last, said in found]


def chosen(played: Played) -> list[tuple[str, Run]]:
    """The connections worth drawing, each with its title: the plain one, how it goes in the end, and before that the
    first one through the proxy if it went another way.
    """
    first, settled = played.through[0], played.settled
    plain = "A plain connection", played.plain
    way = "Through the tunnel" if played.scene.tunnel else "Through tfo-proxy"
    if settled.gist == first.gist:
        return [plain, (way, settled)]
    at = played.through.index(settled) + 1
    return [plain, (f"{way}, the first one", first), (f"{way}, number {at}", settled)]
