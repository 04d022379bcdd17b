"""The part of the file that says where sessions go whose client names the destination."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from proxy.config.addresses import Destination
from proxy.config.cluster_schema import Section
from proxy.config.conditions import DestinationCondition, HostCondition, NetworkCondition, Ports, Text
from proxy.core.destinations import DENIED


class Match(Section, frozen=True):
    """What must hold for a route; all that is said, and of a list one."""

    host: Annotated[
        tuple[HostCondition, ...],
        Meta(
            description='The name asked for; "*.example.com" for all below it, "/expression/" for whole names.'
        ),
    ] = ()
    port: Annotated[
        tuple[Ports, ...], Meta(description='The port asked for, or a range like "8000-8100".')
    ] = ()
    network: Annotated[
        tuple[NetworkCondition, ...],
        Meta(
            description="The network of the address that is dialled, after DNS: CIDR, loopback, private, ..."
        ),
    ] = ()
    client: Annotated[
        tuple[NetworkCondition, ...], Meta(description="The network that the client connects from.")
    ] = ()
    listener: Annotated[
        tuple[Text, ...], Meta(description="The name of the listener that the client connected to.")
    ] = ()
    user: Annotated[tuple[Text, ...], Meta(description="As whom the client has authenticated itself.")] = ()
    sni: Annotated[
        tuple[HostCondition, ...], Meta(description="The name in the client's TLS hello, written as host is.")
    ] = ()


class Route(Section, frozen=True):
    """One rule: where sessions go whose client named its destination. The first that matches is taken."""

    match: Annotated[Match, Meta(description="What must hold; nothing: always.")] = field(
        default_factory=Match
    )
    to: Annotated[
        Destination | None,
        Meta(description='A cluster, a bare "host:port", or direct: what the client asked for.'),
    ] = None
    refuse: Annotated[Text | None, Meta(description="Refuse such sessions instead, for this reason.")] = None


class Direct(Section, frozen=True):
    """What clients may reach that name their destination, where a route says direct."""

    deny: Annotated[
        tuple[DestinationCondition, ...],
        Meta(description="Networks that are never dialled, checked after DNS on the address really dialled."),
    ] = tuple(DestinationCondition(name) for name in DENIED)
    allow: Annotated[tuple[DestinationCondition, ...], Meta(description="Exceptions from deny.")] = ()
