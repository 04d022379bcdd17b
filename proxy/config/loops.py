"""Sessions that would come back to the listener that they came by, and be sent on again until nothing is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from proxy.config.mistakes import Findings, quoted
from proxy.config.nodes import Tree
from proxy.config.sense import covering, normal_path
from proxy.core.address import Authority, Endpoint, is_numeric
from proxy.core.clusters import Cluster
from proxy.core.networks import NAMED, is_within
from proxy.core.snapshot import Listener, Mode

_ITSELF = {
    "localhost": ("127.0.0.1", "::1"),
    "0.0.0.0": ("127.0.0.1",),
    "::": ("::1",),
}  # what Linux dials for it
_FIXED = frozenset({Mode.FORWARD, Mode.SNI})  # nobody but the file says where these send their sessions


def check(listeners: Sequence[Listener], tree: Tree, findings: Findings) -> None:
    """Refuse ways round in a circle, as far as addresses alone tell; `Routing` refuses those that clients ask for."""
    holders = _holders(listeners)
    fixed = {listener.name: listener.cluster for listener in listeners if listener.mode in _FIXED}
    clusters = {cluster.name: cluster for cluster in fixed.values()}
    led = {name: list(_next(cluster, holders)) for name, cluster in clusters.items()}
    after = {name: led[cluster.name] for name, cluster in fixed.items()}
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


def _holders(listeners: Sequence[Listener]) -> dict[int, dict[str, str]]:
    """Listeners by port, 0 for unix sockets, and by what they are bound to."""
    holders: dict[int, dict[str, str]] = {}
    for listener in listeners:
        for bind in listener.binds:
            host = normal_path(bind.host) if bind.is_unix else bind.host
            holders.setdefault(bind.port, {})[host] = listener.name
    return holders


def _next(cluster: Cluster, holders: Mapping[int, Mapping[str, str]]) -> Iterator[str]:
    """The listeners that its sessions may arrive at next."""
    if cluster.via is not None:
        return  # whom a gateway dials is the gateway's to know
    for origin in cluster.endpoints:
        if isinstance(origin, Endpoint | Authority) and (held := holders.get(origin.port)):
            yield from (held[host] for host in _places(origin) if host in held)


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


def _places(origin: Endpoint | Authority) -> Iterator[str]:
    """What whoever listens there, on this machine, is bound to; as far as that is known without asking anybody."""
    if isinstance(origin, Endpoint) and origin.is_unix:
        yield normal_path(origin.host)
        return
    for host in _ITSELF.get(origin.host.removesuffix("."), (origin.host,)):
        is_loopback = is_numeric(host) and is_within(host, NAMED["loopback"])
        yield from covering(host) if is_loopback else (host,)
