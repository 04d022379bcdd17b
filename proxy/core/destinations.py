"""Where `direct` may not go, whatever the routes say: judged on the numeric address that is dialled, after DNS."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.core.address import Endpoint
from proxy.core.networks import NAMED, Network, itself, meanings

DENIED = ("loopback", "link_local", "unspecified", "multicast", "broadcast", "metadata", "own")
"""By default: a client of the proxy could otherwise reach what trusts the machine that it runs on."""

OWN = "own"
"""All addresses of this machine. Which ones these are is the kernel's to say (`net.own`), so it has no networks."""


@dataclass(frozen=True, slots=True)
class Ban:
    """One entry of ``deny`` or ``allow``: how the file calls it, and what it is."""

    name: str
    networks: tuple[Network, ...]


def named(*names: str) -> tuple[Ban, ...]:
    """The networks of these names (`core.networks.NAMED`), and `OWN`."""
    return tuple(Ban(name, NAMED.get(name, ())) for name in names)


@dataclass(frozen=True, slots=True)
class Destinations:
    """What ``direct`` may dial. ``allow`` are exceptions from ``deny``."""

    deny: tuple[Ban, ...] = named(*DENIED)
    allow: tuple[Ban, ...] = ()

    def forbids_own(self, endpoint: Endpoint) -> bool:
        """Whether ``endpoint`` must not be dialled if it is an address of this machine."""
        if endpoint.is_unix or not any(ban.name == OWN for ban in self.deny):
            return False
        own = itself(endpoint.host)
        return not any(
            ban.name == OWN or any(network.holds(own) for network in ban.networks) for ban in self.allow
        )

    def refusal(self, endpoint: Endpoint) -> str | None:
        """Why ``endpoint`` must not be dialled; None: it may be.

        Every IPv4 address hidden in an IPv6 one is judged with it, so 64:ff9b::7f00:1 is loopback. An exception
        must hold for the address itself, or the IPv4 address where it is IPv4-mapped.
        """
        if endpoint.is_unix:
            return "a unix socket"
        own = itself(endpoint.host)
        if any(network.holds(own) for ban in self.allow for network in ban.networks):
            return None
        reached = meanings(endpoint.host)
        for ban in self.deny:
            if any(network.holds(address) for network in ban.networks for address in reached):
                return ban.name
        return None
