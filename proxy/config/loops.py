"""Sessions that would come back to the listener that they came by, and be sent on again until nothing is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from proxy.config.mistakes import Findings, quoted
from proxy.config.nodes import Tree
from proxy.config.sense import normal_path
from proxy.core.address import Authority, Endpoint
from proxy.core.clusters import Origin
from proxy.core.networks import NAMED, is_within
from proxy.core.snapshot import Bind, Listener, Mode

_EVERYWHERE = {"*": "46", "0.0.0.0": "4", "::": "6"}  # compared with, never bound
_FIXED = frozenset({Mode.FORWARD, Mode.SNI})  # nobody but the file says where these send their sessions


def check(listeners: Sequence[Listener], tree: Tree, findings: Findings) -> None:
    """Refuse ways round in a circle, as far as addresses alone tell; `Routing` refuses those that clients ask for."""
    after = {listener.name: _next(listener, listeners) for listener in listeners if listener.mode in _FIXED}
    told: set[str] = set()
    for name in after:
        circle = _circle(name, after)
        if circle and told.isdisjoint(circle):
            told.update(circle)
            stops = " and ".join(quoted(stop) for stop in circle[1:])
            how = f" by way of {stops}" if stops else ""
            problem = f"its sessions would come back to it{how}, and be sent on again, for ever"
            place = tree.nearest("listeners", name, "to").place
            findings.wrong(place, f"listeners.{name}.to: {problem}; name the server behind it")


def _next(listener: Listener, listeners: Sequence[Listener]) -> list[str]:
    """The listeners that a session of ``listener`` may arrive at next."""
    if listener.cluster.via is not None:
        return []  # whom a gateway dials is the gateway's to know
    origins = listener.cluster.endpoints
    return [
        other.name
        for other in listeners
        if any(_holds(bind, origin) for bind in other.binds for origin in origins)
    ]


def _circle(name: str, after: Mapping[str, Sequence[str]]) -> list[str]:
    """The shortest way from ``name`` back to it: the listeners on it, itself first; none if there is no such way."""
    ways, seen = [[name]], {name}
    for way in ways:
        for stop in after.get(way[-1], ()):
            if stop == name:
                return way
            if stop not in seen:
                seen.add(stop)
                ways.append([*way, stop])
    return []


def _holds(bind: Bind, origin: Origin) -> bool:
    """Whether whoever dials ``origin`` is sure to arrive at ``bind``, if at anybody."""
    if not isinstance(origin, Endpoint | Authority) or origin.port != bind.port:
        return False
    if bind.is_unix:
        return normal_path(origin.host) == normal_path(bind.host)
    everywhere = _EVERYWHERE.get(bind.host)
    return any(
        host == bind.host
        or (everywhere is not None and _family(host) in everywhere and is_within(host, NAMED["loopback"]))
        for host in _hosts(origin)
    )


def _hosts(origin: Endpoint | Authority) -> Iterator[str]:
    """Its addresses, where they are known without asking anybody. Linux takes 0.0.0.0 for itself."""
    if origin.host in {"localhost", "0.0.0.0"}:
        yield "127.0.0.1"
    if origin.host in {"localhost", "::"}:
        yield "::1"
    if isinstance(origin, Endpoint):
        yield origin.host


def _family(host: str) -> str:
    return "6" if ":" in host else "4"
