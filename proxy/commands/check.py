"""``tfo-proxy check``: is this configuration good, and where would it send somebody?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proxy.commands.group import load_config

if TYPE_CHECKING:
    from proxy.core.address import Target
    from proxy.core.routes import Route, RouteQuery
    from proxy.core.snapshot import Snapshot


@click.command()
@click.argument("config")
@click.option(
    "--route", "target", metavar="HOST:PORT", help="Say which rule takes this destination, and why."
)
@click.option("--client", metavar="IP", default="127.0.0.1", show_default=True, help="Who asks for it.")
@click.option("--listener", metavar="NAME", help="The listener it is asked of.  [default: the first]")
@click.option("--user", metavar="NAME", help="As whom the client has authenticated itself.")
@click.option("--sni", metavar="NAME", help="The name in the client's TLS hello.")
def command(  # one for each option
    config: str, target: str | None, client: str, listener: str | None, user: str | None, sni: str | None
) -> None:
    """Say whether a configuration is good; every mistake in it at once, and exit code 78, if not."""
    snapshot = load_config(config).snapshot
    for warning in _sources(snapshot):
        click.echo(warning, err=True)
    if target is None:
        listeners, clusters = len(snapshot.listeners), len(snapshot.clusters)
        click.echo(f"{config}: ok, {_counted(listeners, 'listener')}, {_counted(clusters, 'cluster')}")
        return
    from proxy.core.routes import RouteQuery

    asked, listener = _target(target), listener or snapshot.listeners[0].name
    if listener not in {one.name for one in snapshot.listeners}:
        raise click.BadParameter(f"there is no listener {listener!r}", param_hint="--listener")
    query = RouteQuery(asked, _address(client), listener, user, sni.lower() if sni else None)
    click.echo("\n".join(_explained(snapshot, query)))


def _sources(snapshot: Snapshot) -> list[str]:
    """What this machine, or our privileges on it, lack of the addresses and marks that connections should have."""
    from proxy.net.sockopt import source_problem

    clusters = [snapshot.direct, *snapshot.clusters.values()]
    found = [(one.name, source_problem(one.source)) for one in clusters if one.source is not None]
    return [f"warning: clusters.{name}.source: {problem}" for name, problem in found if problem]


def _explained(snapshot: Snapshot, query: RouteQuery) -> list[str]:
    """What becomes of such a session, a line for each address where the address decides."""
    from proxy.core.address import Endpoint

    route = snapshot.routes.match(query)
    if isinstance(query.authority, Endpoint) and route.cluster is snapshot.direct:
        return [f"{query.authority}: {_verdict(snapshot, route, query.authority)}"]
    if route.cluster is not snapshot.direct or query.authority is None:
        return [f"{query.authority}: {_verdict(snapshot, route, None)}"]
    head = "a rule for networks may take it" if route.needs_address else _verdict(snapshot, route, None)
    lines = [f"{query.authority}: {head}; its addresses decide"]
    for host in _addresses(query.authority.host):
        endpoint = Endpoint(host, query.authority.port)
        settled = snapshot.routes.match(query._replace(address=host))
        lines.append(f"  {endpoint}: {_verdict(snapshot, settled, endpoint)}")
    return lines


def _verdict(snapshot: Snapshot, route: Route, endpoint: object) -> str:
    from proxy.core.address import Endpoint

    why = f"rule {route.rule} at {route.place}" if route.rule is not None else "no rule takes it"
    if route.refusal is not None:
        return f"refused, {route.refusal} ({why})"
    cluster = route.cluster
    assert cluster is not None
    if cluster is snapshot.direct and isinstance(endpoint, Endpoint):
        reason = snapshot.destinations.refusal(endpoint)
        if reason is not None:
            return f"refused, direct.deny has {reason} ({why}, so direct)"
    return f"{'direct' if cluster is snapshot.direct else f'cluster {cluster.name}'} ({why})"


def _addresses(name: str) -> list[str]:
    import socket

    try:
        rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        click.echo(f"{name}: {error.strerror or error}", err=True)
        return []
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


def _target(text: str) -> Target:
    from proxy.core.address import BadAddress, parse_target

    try:
        return parse_target(text)
    except BadAddress as error:
        raise click.BadParameter(str(error), param_hint="--route") from None


def _address(text: str) -> str:
    from proxy.core.address import is_numeric

    if not is_numeric(text):
        raise click.BadParameter(f"{text!r} is not an IP address", param_hint="--client")
    return text


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
