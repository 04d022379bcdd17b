"""Who may ask what: against pages that were led here by DNS, forms of other sites, and those without the token."""

from __future__ import annotations

import hmac
import ipaddress

from proxy.admin.exchange import BadRequest, Request
from proxy.core.address import BadAddress, is_numeric, split_host_port
from proxy.core.networks import NAMED, is_within
from proxy.core.snapshot import Admin

_OURS = frozenset({"same-origin", "none"})  # values of Sec-Fetch-Site: the page itself, or a typed-in address
_HOW = "Authorization: Bearer TOKEN, with the token of `admin.token`"


def check(admin: Admin, request: Request, *, order: bool, private: bool) -> None:
    """Let a request pass or raise `BadRequest`.

    ``order``: it changes something. ``private``: it tells what not everybody who reaches the address need know.
    """
    if not request.peer:
        return  # over a unix socket: the file system says who may
    _check_host(admin, request)
    if order or private:
        _check_origin(request)
    if order:
        if admin.token is None:
            raise BadRequest(
                403,
                "orders over TCP need a token, and `admin.token` is not set; on this machine root and the proxy's user"
                " can give them with `tfo-proxy reload` and `tfo-proxy drain`",
            )
        if not _has_token(admin.token, request):
            raise BadRequest(401, f"orders need {_HOW}")
    elif private and not _is_local(request.peer) and not (admin.token and _has_token(admin.token, request)):
        raise BadRequest(401, f"who is not on this machine needs {_HOW}")


def _check_host(admin: Admin, request: Request) -> None:
    """A browser that was led here by another site's DNS names that site (DNS rebinding); numbers cannot be bent so."""
    named = request.headers.get("host")
    if named is None:
        return  # HTTP/1.0: no browser
    host = _bare(named)
    if host is None or not (host == "localhost" or is_numeric(host) or host in admin.hosts):
        raise BadRequest(421, "the Host header is none of ours; names must be listed in `admin.hosts`")


def _check_origin(request: Request) -> None:
    """No other site's page may ask."""
    if request.headers.get("sec-fetch-site", "none") not in _OURS:
        raise BadRequest(403, "this request comes from a page of another site")
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != request.headers.get("host", "").lower():
        raise BadRequest(403, "this request comes from a page of another site")


def _has_token(token: str, request: Request) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


def _is_local(peer: str) -> bool:
    return is_within(peer, NAMED["loopback"])


def _bare(named: str) -> str | None:
    """The host of a Host header, without its port; None where that is no host at all."""
    if named.startswith("[") and named.endswith("]"):
        named += ":80"
    try:
        host = split_host_port(named)[0] if ":" in named else named
        return str(ipaddress.ip_address(host)) if ":" in host else host.lower().rstrip(".")
    except (BadAddress, ValueError):
        return None
