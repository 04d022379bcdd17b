"""A proxy with some life behind it, as its admin would tell it."""

from __future__ import annotations

import msgspec

from proxy.admin.views import (
    Cookie,
    Endpoint,
    Endpoints,
    Listener,
    Listeners,
    Minute,
    Place,
    Reload,
    Session,
    Sessions,
    Spread,
    Status,
    Tally,
)
from proxy.top.seen import Seen

NOW = 1_790_000_000.0
HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\n\u202e<b>[red]x[/red]"


def tally(sessions: int, saved: float = 0.0, lost: float = 0.0, open: int = 0) -> Tally:  # noqa: A002  # the field's name
    return Tally(
        sessions=sessions, open=open, round_trips_saved=int(saved * 20), seconds_saved=saved, seconds_lost=lost,
        first_byte_fast=Spread(count=int(saved > 0), median=0.056 if saved else None),
        first_byte_plain=Spread(count=sessions, median=0.101 if sessions else None),
    )  # fmt: skip


def endpoint(
    address: str, standing: str, *, healthy: bool | None = None, rtt: float | None = 0.048, **of: Tally
) -> Endpoint:
    return Endpoint(
        endpoint=address, clusters=["api"], standing=standing, why=f"why {address} is {standing}", until=None, times=0,
        cause=None, syn_data=None, healthy=healthy, cookie=Cookie(known=standing == "confirmed", size=8, age=1.0),
        rtt=rtt, rtt_variation=0.001, tally=of.get("tally", tally(0)),
    )  # fmt: skip


def session(number: int, **fields: object) -> Session:
    ended: dict[str, object] = {
        "id": f"abc-{number:x}", "listener": "web", "client": f"10.1.0.9:{4000 + number}", "cluster": "api",
        "began": NOW - number, "duration": 0.4, "endpoint": "203.0.113.10:443",
        "authority": f"host{number}.example:443",
        "open": "data", "syn_bytes": 517, "evidence": "syn_data_acked", "saved": 0.048, "up_bytes": 1000,
        "down_bytes": 48_000, "ended_by": "downstream", "during": "relay", "reason": "closed",
    }  # fmt: skip
    return msgspec.convert(ended | fields, Session)


ENDPOINTS = [
    endpoint("203.0.113.10:443", "confirmed", tally=tally(2841, 130.0, open=4)),
    endpoint("192.0.2.77:80", "quarantined", rtt=0.142, tally=tally(318, 0.0, 3.1)),
    endpoint("198.51.100.23:25", "unsupported", rtt=0.022, tally=tally(97)),
    endpoint("192.0.2.14:443", "learning", tally=tally(1)),
    endpoint("192.0.2.201:6379", "unknown", rtt=None, healthy=False),
]
SESSIONS = [
    session(1),
    session(2, authority=HOSTILE, evidence=None, open="", saved=0.0, during="route", reason="no_such_host",
            ended_by="proxy"),
    session(3, evidence="syn_data_lost", saved=0.0, lost=1.02, reason="reset", ended_by="upstream", hedged=True),
    session(4, evidence="plain", saved=0.0, ended_by="timeout", reason="idle", down_bytes=9_000_000),
]  # fmt: skip
OPEN = [session(90, is_open=True, ended_by="", during="", reason="", duration=90.0)]


MINUTES = [
    Minute(
        began=NOW - 60 * (60 - i),
        sessions=9,
        round_trips_saved=i,
        seconds_saved=i / 20,
        seconds_lost=5.0 * (i == 30),
        bytes=9,
    )
    for i in range(60)
]


def status(**fields: object) -> Status:
    known: dict[str, object] = {
        "version": "0.5.0", "python": "3.11.7", "pid": 4711, "state": "ready", "now": NOW, "began": NOW - 200_000,
        "uptime": 200_000.0, "config": "/etc/tfo-proxy.yaml", "log_level": "info", "bounds": [0.1, 1.0],
        "total": tally(3257, 130.0, 4.1, open=4),
        "minutes": MINUTES,
        "saved_per_minute": 37.2, "seconds_saved_per_minute": 1.79, "standings": {}, "workers": [], "reloads": 0,
        "reloads_failed": 0, "last_reload": None, "notes": [],
    }  # fmt: skip
    return Status(**(known | fields))  # type: ignore[arg-type]  # by name


LISTENERS = [
    Listener(
        name="web", mode="mixed", places=[Place(bind="127.0.0.1:8080", fast_open=True)], to="direct",
        tally=tally(3000, 120.0, open=3), accepted=3100, refused={"not_allowed": 7},
    ),
    Listener(
        name="db", mode="forward", places=[Place(bind="127.0.0.1:5432", fast_open=False)], to="database",
        tally=tally(257, 10.0, open=1), accepted=257, refused={},
    ),
]  # fmt: skip

MISTAKEN = Reload(
    at=NOW - 60, ok=False, mistakes=[f"/etc/x.yaml:{line}:1: no such key; {HOSTILE}" for line in range(9)]
)


def seen(**fields: object) -> Seen:
    return Seen(
        status(**fields),
        Listeners(listeners=LISTENERS),
        Endpoints(endpoints=ENDPOINTS, total=len(ENDPOINTS)),
        Sessions(recent=SESSIONS, open=OPEN, total_open=1),
    )


def bodies() -> dict[str, bytes]:
    whole = seen()
    return {
        name: msgspec.json.encode(getattr(whole, name))
        for name in ("status", "listeners", "endpoints", "sessions")
    }
