"""The protocols we can tell apart by a client's first bytes: a closed list, so it can be a metric label."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Protocol"]


class Protocol(StrEnum):
    """What a client's first bytes speak. `UNKNOWN` also where it is too early to say."""

    UNKNOWN = "unknown"
    TLS = "tls"
    HTTP1 = "http1"
    HTTP2 = "http2"
    SSH = "ssh"
    SOCKS = "socks"
    POSTGRES = "postgres"
    DNS = "dns"
    REDIS = "redis"
    MEMCACHED = "memcached"
