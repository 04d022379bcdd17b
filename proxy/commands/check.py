"""``tfo-proxy check``: is this configuration good, and where would it send somebody?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from proxy.commands.group import BAD_CONFIG

if TYPE_CHECKING:
    from proxy.config import Loaded
    from proxy.config.mistakes import Mistake
    from proxy.core.address import Authority, Endpoint, Target
    from proxy.core.routes import Route, RouteQuery
    from proxy.core.snapshot import Cluster, Listener, Snapshot
    from proxy.sessions.pools import Pools
    from proxy.sessions.routing import Refused, Routing


@click.command()
@click.argument("configs", metavar="CONFIG...", nargs=-1, required=True)
@click.option(
    "--route", "target", metavar="HOST:PORT", help="Say which rule takes this destination, and why."
)
@click.option("--client", metavar="IP", default="127.0.0.1", show_default=True, help="Who asks for it.")
@click.option("--listener", metavar="NAME", help="The listener it is asked of.  [default: the first]")
@click.option("--user", metavar="NAME", help="As whom the client has authenticated itself.")
@click.option("--sni", metavar="NAME", help="The name in the client's TLS hello.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as a list of JSON objects.")
def command(  # noqa: PLR0913, PLR0917  # one for each option
    configs: tuple[str, ...],
    target: str | None,
    client: str,
    listener: str | None,
    user: str | None,
    sni: str | None,
    as_json: bool,
) -> None:
    """Say whether a configuration is good; every mistake in it at once, and exit code 78, if not.

    Each file is a configuration of its own; `-` is standard input. What only this machine can tell (whether there is
    the `user`, whether `state` can be written) is checked as if it were started here.
    """
    if target is not None and (as_json or len(configs) > 1):
        raise click.UsageError("--route takes one CONFIG, and no --json")
    checked = [_check(config) for config in configs]
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode([one.plain() for one in checked])).decode())
    else:
        for one in checked:
            one.tell(quiet=target is not None)
    if any(one.mistakes for one in checked):
        raise click.exceptions.Exit(BAD_CONFIG)
    if target is None:
        return
    snapshot = checked[0].snapshot
    assert snapshot is not None
    from proxy.net.resolve import Resolver
    from proxy.sessions.pools import Pools

    query = _query(_listener(snapshot, listener), _target(target), _address(client), user, sni)
    click.echo("\n".join(_explained(snapshot, query, Pools(Resolver(snapshot.dns)))))


class _Checked(NamedTuple):
    """What was found in one file."""

    config: str
    snapshot: Snapshot | None  # None: there are mistakes
    mistakes: Sequence[Mistake]
    warnings: Sequence[Mistake] = ()

    def tell(self, *, quiet: bool) -> None:
        """Print it. ``quiet``: not that it is good."""
        from proxy.config import ConfigError

        for one in self.warnings:
            click.echo(str(one), err=True)
        if self.mistakes:
            click.echo(str(ConfigError(self.mistakes)), err=True)
        if self.snapshot is not None and not quiet:
            listeners, clusters = len(self.snapshot.listeners), len(self.snapshot.clusters)
            counted = f"{_counted(listeners, 'listener')}, {_counted(clusters, 'cluster')}"
            click.echo(f"{self.config}: ok, {counted}")

    def plain(self) -> dict[str, object]:
        """It as JSON has it."""
        found: dict[str, object] = {
            "file": self.config,
            "ok": self.snapshot is not None,
            "mistakes": [_plain(one) for one in self.mistakes],
            "warnings": [_plain(one) for one in self.warnings],
        }
        if self.snapshot is None:
            return found
        return {**found, "listeners": len(self.snapshot.listeners), "clusters": len(self.snapshot.clusters)}


def _plain(mistake: Mistake) -> dict[str, object]:
    place, problem = mistake.place, mistake.problem.removeprefix("warning: ")
    return {"file": place.source.name, "line": place.line, "column": place.column, "problem": problem}


def _check(config: str) -> _Checked:
    from proxy.config import ConfigError, load

    try:
        loaded = load(config, once=True)
    except ConfigError as error:
        return _Checked(config, None, error.mistakes)
    wrong, pointless = _of_this_machine(loaded)
    return _Checked(config, None if wrong else loaded.snapshot, wrong, [*loaded.warnings, *pointless])


def _of_this_machine(loaded: Loaded) -> tuple[list[Mistake], list[Mistake]]:
    """Mistakes and warnings about what the file names and this machine does not have."""
    from proxy.config.mistakes import Findings
    from proxy.service import state
    from proxy.service.privileges import CannotDrop, identity_of

    found, snapshot, tree = Findings(), loaded.snapshot, loaded.tree
    assert tree is not None
    for warning, *path in _sources(snapshot):
        found.pointless(tree.nearest(*path).place, warning)
    uid, gids = os.geteuid(), {os.getegid(), *os.getgroups()}
    for key, names in (("user", (snapshot.user, None)), ("group", (None, snapshot.group))):
        try:
            identity_of(*names)
        except CannotDrop as failure:
            found.wrong(tree.nearest(key).place, f"{key}: {failure}; create it, or name another one")
    if not found.mistakes and (snapshot.user is not None or snapshot.group is not None):
        identity = identity_of(snapshot.user, snapshot.group)
        uid, gids = identity.uid, {identity.gid, *identity.groups}
    if snapshot.state is not None and (why := state.obstacle(snapshot.state, uid, gids)):
        found.pointless(tree.nearest("state").place, f"state: {why}; it would be kept in memory only")
    return found.mistakes, found.warnings


def _listener(snapshot: Snapshot, name: str | None) -> Listener:
    """The listener of this name; raises `click.BadParameter`."""
    for listener in snapshot.listeners:
        if name in {None, listener.name}:
            return listener
    raise click.BadParameter(f"there is no listener {name!r}", param_hint="--listener")


def _query(listener: Listener, asked: Target, client: str, user: str | None, sni: str | None) -> RouteQuery:
    """What a session of this listener would ask; raises `click.BadParameter` for what it can never know."""
    from proxy.core.routes import RouteQuery
    from proxy.core.snapshot import Mode

    if user is not None and listener.users is None:
        raise click.BadParameter(f"listener {listener.name!r} has no users", param_hint="--user")
    if sni is not None and listener.mode is not Mode.SNI:
        problem = (
            f"listener {listener.name!r} is in mode {listener.mode.value}; only mode sni reads a TLS hello"
        )
        raise click.BadParameter(problem, param_hint="--sni")
    if listener.mode is Mode.SNI:
        sni = _target(f"{sni}:{asked.port}").host if sni is not None else asked.host
        if sni != asked.host:
            problem = f"a TLS client is sent to the name that its hello has: write --route {sni}:{asked.port}"
            raise click.BadParameter(problem, param_hint="--sni")
    return RouteQuery(asked, client, listener.name, user, sni)


def _sources(snapshot: Snapshot) -> list[tuple[str, ...]]:
    """What this machine, or our privileges on it, lack of the addresses and marks that connections should have."""
    from proxy.net.sockopt import source_problem

    clusters: list[tuple[tuple[str, ...], Cluster]] = [(("direct",), snapshot.direct)]
    clusters += [(("clusters", name), one) for name, one in snapshot.clusters.items()]
    found = [(path, one.name, source_problem(one.source)) for path, one in clusters if one.source is not None]
    return [
        (f"clusters.{name}.source: {problem}", *path, "source") for path, name, problem in found if problem
    ]


def _explained(snapshot: Snapshot, query: RouteQuery, pools: Pools) -> list[str]:
    """What becomes of such a session, a line for each address where the address decides. ``pools`` look names up."""
    from proxy.core.address import Endpoint
    from proxy.core.networks import is_within
    from proxy.core.routes import Route
    from proxy.core.snapshot import Mode
    from proxy.net.listening import Listening
    from proxy.sessions.routing import Refused, Routing

    listener = next(one for one in snapshot.listeners if one.name == query.listener)
    fixed = listener.cluster if listener.cluster.endpoints else None
    asked = query.authority
    if listener.allow and not is_within(query.client, listener.allow):
        return [f"{asked}: refused, listener {listener.name} does not allow this client"]
    if listener.mode is Mode.FORWARD:
        return [f"{asked}: cluster {listener.cluster.name} (listener {listener.name}: to)"]
    listening = Listening()
    for bind in (bind for one in snapshot.listeners for bind in one.binds if bind.port):
        listening.also(bind.host, bind.port)
    listening.follow_admin(
        (bind.host, bind.port) for bind in (snapshot.admin.binds if snapshot.admin else ())
    )
    routing = Routing(snapshot.routes, snapshot.destinations, pools, listening)

    def verdict(route: Route, endpoint: Target | None = None) -> str:
        try:
            if isinstance(endpoint, Endpoint):
                route = routing.at_address(query, route, endpoint, fixed)
        except Refused as refused:
            return _refusal(refused)
        return _verdict(snapshot, listener, route)

    try:
        route, name = routing.before_dns(query, fixed)
    except Refused as refused:
        return [f"{asked}: {_refusal(refused)}"]
    if name is None:
        return [f"{asked}: {verdict(route, asked)}"]
    head = "a rule for networks may take it" if route.needs_address else verdict(route)
    lines = [f"{asked}: {head}; its addresses decide"]
    found = _addresses(pools, name)
    if not found and fixed is not None:
        return [*lines, *_without_address(routing, query, route, verdict(Route(fixed)))]
    return lines + [f"  {endpoint}: {verdict(route, endpoint)}" for endpoint in found]


def _without_address(routing: Routing, query: RouteQuery, route: Route, left_over: str) -> list[str]:
    """What becomes of a name that has no address, where the listener has a destination of its own."""
    from proxy.sessions.routing import Refused

    try:
        is_left_over = routing.is_left_over(query, route)
    except Refused as refused:
        return [f"  no address: {_refusal(refused)}"]
    return [f"  no address: {left_over}"] if is_left_over else []


def _verdict(snapshot: Snapshot, listener: Listener, route: Route) -> str:
    cluster = route.cluster
    assert cluster is not None
    where = "direct" if cluster is snapshot.direct else f"cluster {cluster.name}"
    if route.rule is not None:
        return f"{where} ({_why(route)})"
    is_fixed = cluster is listener.cluster and bool(cluster.endpoints)
    return f"{where} ({f'no rule takes it; listener {listener.name}: to' if is_fixed else _why(route)})"


def _refusal(refused: Refused) -> str:
    route = refused.route
    assert route is not None
    so_direct = "" if route.refusal is not None else ", so direct"
    return f"refused, {refused.brief} ({_why(route)}{so_direct})"


def _why(route: Route) -> str:
    return f"rule {route.rule} at {route.place}" if route.rule is not None else "no rule takes it"


def _addresses(pools: Pools, name: Authority) -> list[Endpoint]:
    """The addresses of a name, as the running program finds them."""
    import trio

    from proxy.net.resolve import NoSuchHost

    try:
        return trio.run(pools.lookup, name)
    except NoSuchHost as error:
        click.echo(str(error), err=True)
        return []


def _target(text: str) -> Target:
    """What ``--route`` names, in the normal form that a client's request gets."""
    from proxy.core.address import BadAddress, Endpoint, parse_target, split_host_port
    from proxy.core.request import target_of

    try:
        target = parse_target(text)
        is_unix = isinstance(target, Endpoint) and target.is_unix
        return target if is_unix else target_of(*split_host_port(text))
    except BadAddress as error:
        raise click.BadParameter(str(error), param_hint="--route") from None


def _address(text: str) -> str:
    from proxy.core.address import is_numeric

    if not is_numeric(text):
        raise click.BadParameter(f"{text!r} is not an IP address", param_hint="--client")
    return text


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
