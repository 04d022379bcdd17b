"""The JSON of ``/api/v1/*``: stable names, plain values.

Times of day are seconds since 1970 (UTC), durations are seconds, sizes are bytes, all as numbers; what is not known is
null. Fields may be added, none is renamed or changes its meaning without a new version in the path.

| path | body |
|---|---|
| ``/api/v1/status`` | `Status` |
| ``/api/v1/listeners`` | `Listeners` |
| ``/api/v1/clusters`` | `Clusters` |
| ``/api/v1/endpoints?limit=200`` | `Endpoints`, those in trouble come first |
| ``/api/v1/sessions?limit=100`` | `Sessions`, those that ended last come first |
| ``/api/v1/config`` | `Config` |
| ``/api/v1/events`` | server-sent events, named like the paths above (``status`` to ``sessions``), data: their bodies |
| POST ``/api/v1/reload`` | `Reload`; HTTP status 422 where the configuration was refused |
| POST ``/api/v1/drain`` | `Done` |
| POST ``/api/v1/loglevel`` with `Level` | `Done` |

An error's body is `Problem`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct, field

State: TypeAlias = Literal["starting", "ready", "draining"]


class Spread(Struct, frozen=True, kw_only=True):
    """How long something took: how often it took how long."""

    count: int = 0
    total: float = 0.0  # seconds, all together
    median: float | None = None  # seconds; from the counts, so as fine as the bounds are
    p90: float | None = None
    counts: list[
        int
    ] = []  # [i]: at most `Status.bounds[i]` seconds, more than the bound before; the last: longer


class Ending(Struct, frozen=True, kw_only=True):
    """How a number of sessions ended."""

    ended_by: str  # downstream, upstream, proxy, timeout, operator
    during: str  # accept, sniff, route, dial, relay
    reason: str  # closed, reset, refused ...: docs/log.md has them all
    sessions: int


class Tally(Struct, frozen=True, kw_only=True):
    """What a number of sessions add up to, since the program began. Those still open are in `open` only."""

    sessions: int = 0  # that have ended
    open: int = 0  # that are open now
    up_bytes: int = 0  # from clients to servers
    down_bytes: int = 0
    round_trips_saved: int = 0
    seconds_saved: float = 0.0
    seconds_lost: float = 0.0  # by waits, hedges, redials, SYNs that had to be repeated
    hedges: int = 0  # second dials beside a silent one
    redials: int = 0  # second dials after a refused one
    repeated_bytes: int = 0  # sent twice, and safe to be
    duplicates: int = 0  # sessions that began with a SYN that had come before
    on_spares: int = 0  # sessions carried by a connection that was ready
    failed: int = 0  # sessions that never reached a server
    evidence: dict[str, int] = {}  # sessions by what their handshake showed: syn_data_acked, plain ...
    endings: list[Ending] = []  # the most frequent first
    first_byte_fast: Spread = field(
        default_factory=Spread
    )  # from accepted to the server's first byte, with Fast Open
    first_byte_plain: Spread = field(default_factory=Spread)  # and without


class Minute(Struct, frozen=True, kw_only=True):
    """What one minute brought; sessions count when they end."""

    began: float  # seconds since 1970
    sessions: int
    round_trips_saved: int
    seconds_saved: float
    seconds_lost: float
    bytes: int  # both directions


class Worker(Struct, frozen=True, kw_only=True):
    """One process that serves sessions."""

    number: int  # from 0
    pid: int
    state: str  # ready, draining, starting, down
    open: int  # sessions
    restarts: int  # how often it had to be replaced
    began: float  # seconds since 1970
    tasks: int = 0  # of its event loop: its own, and one for each session that waits for more than bytes


class Reload(Struct, frozen=True, kw_only=True):
    """What became of a request to read the configuration again."""

    at: float  # seconds since 1970
    ok: bool
    changed: list[str] = []  # in words: "listener web", "cluster api"; empty where nothing has changed
    mistakes: list[str] = []  # as `tfo-proxy check` prints them: file:line:column: what is wrong
    warnings: list[str] = []


class WarmUp(Struct, frozen=True, kw_only=True):
    """Cookies fetched before a session needs them, since the configuration came into force or was confirmed."""

    began: float  # seconds since 1970
    seconds: float  # that it took, or has taken so far
    is_over: bool
    endpoints: int  # all of them; the fields below add up to this
    waiting: int  # not yet known
    fetched: int  # a cookie has come
    held: int  # it was there already
    no_fast_open: int  # none comes
    dropped: int  # the way there swallows the option
    unreachable: int  # nobody answers


class Status(Struct, frozen=True, kw_only=True):
    """The whole program at a glance."""

    version: str
    python: str
    pid: int
    state: State
    now: float  # seconds since 1970
    began: float
    uptime: float  # seconds
    counted_since: float = (
        0.0  # all counts began then: before `began`, where this program took over from another
    )
    config: str | None  # path of the file; null where there are flags only
    log_level: str
    bounds: list[float]  # seconds: the bounds of every `Spread.counts`
    total: Tally
    minutes: list[Minute]  # the last hour, oldest first; the last one is not over yet
    saved_per_minute: float  # round trips, over the last five minutes
    seconds_saved_per_minute: float
    standings: dict[str, int]  # endpoints by standing
    workers: list[Worker]
    reloads: int  # done
    reloads_failed: int  # refused: nothing has changed
    last_reload: Reload | None
    notes: list[str]  # what an operator should know now, in whole sentences
    takes_orders: bool = False  # over TCP: a token is configured; over a unix socket they are taken anyway
    warm_up: WarmUp | None = None  # null: nobody is to be warmed


class Place(Struct, frozen=True, kw_only=True):
    """One address where a listener listens."""

    bind: str
    fast_open: bool  # whether the kernel really takes SYN data here


class Listener(Struct, frozen=True, kw_only=True):
    """A place where clients connect."""

    name: str
    mode: str  # forward, socks, http, mixed, sni, transparent, tproxy, tunnel
    places: list[Place]
    to: str  # the cluster of sessions whose client names no destination
    tally: Tally
    accepted: int  # connections, also those refused before there was a session
    refused: dict[str, int]  # connections and sessions we did not serve, by reason


class Listeners(Struct, frozen=True, kw_only=True):
    """All listeners, in the order of the file."""

    listeners: list[Listener]


class Cluster(Struct, frozen=True, kw_only=True):
    """A group of endpoints that are as good as each other."""

    name: str
    endpoints: list[str]  # as written; empty: what the client asked for
    fast_open: str  # auto, always, off
    balance: str
    members: int | None = None  # addresses that are dialled for it; null: it has not been looked up yet
    down: list[str] = []  # of these, where health checks find nobody
    ejected: list[str] = []  # of these, left alone for a while because dials failed in a row
    tally: Tally


class Clusters(Struct, frozen=True, kw_only=True):
    """All clusters that are configured or have had sessions, by name."""

    clusters: list[Cluster]


class Cookie(Struct, frozen=True, kw_only=True):
    """The server's token that lets a SYN carry data. Itself it is never shown: it would link connections."""

    known: bool
    size: int  # bytes; 0 where it is not known
    age: float | None  # seconds since the kernel's entry was last touched


class Endpoint(Struct, frozen=True, kw_only=True):
    """One IP and port that we dial, and what is believed of it."""

    endpoint: str  # 203.0.113.10:443, [2001:db8::1]:443, unix:/run/x
    clusters: list[str]  # whose sessions went there
    condition: str = "unused"  # down, ejected, failing, quarantined, ok, unused: the worst first
    error: str = (
        ""  # why it is down, ejected or failing: a reason of docs/log.md, or the health check's words
    )
    since: float | None = None  # seconds since 1970: when that began
    standing: (
        str  # unknown, learning, confirmed, unsupported, option_doubted, data_doubted, quarantined, probing
    )
    why: str  # in words: "drops SYN data: plain until 14:05, 3rd time"
    until: float | None  # seconds since 1970: when the next try is due; null where it is not put off
    times: int  # quarantines in a row
    cause: str | None  # the evidence that led to the last quarantine
    syn_data: int | None  # most bytes for a SYN on this path; null: what the MSS allows
    healthy: bool | None  # what health checks say; null: there are none
    cookie: Cookie
    rtt: float | None  # seconds, smoothed
    rtt_variation: float | None
    tally: Tally


class Endpoints(Struct, frozen=True, kw_only=True):
    """The endpoints: those in trouble first, then those used last, then those of the configuration that never were."""

    endpoints: list[Endpoint]
    total: int  # how many are known, also those left out of the list
    conditions: dict[str, int] = {}  # how many are down, ejected, failing and so on


class Session(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One session: fields as in the session's log line (docs/log.md), those without a value left out."""

    id: str
    listener: str
    client: str
    cluster: str
    began: float  # seconds since 1970
    duration: float = 0.0  # so far, where it is open
    is_open: bool = False
    endpoint: str | None = None
    mode: str = ""
    authority: str | None = None
    user: str | None = None
    protocol: str = ""
    open: str = ""  # how it was dialled: data, empty, plain, spare
    syn_bytes: int = 0
    evidence: str | None = None
    standing_after: str | None = None
    waited: float = 0.0
    dial_time: float | None = None
    first_byte: float | None = None
    rtt: float | None = None
    saved: float = 0.0
    lost: float = 0.0
    hedged: bool = False
    redialled: bool = False
    up_bytes: int = 0
    down_bytes: int = 0
    ended_by: str = ""  # empty while it is open
    during: str = ""
    reason: str = ""
    detail: str = ""


class Sessions(Struct, frozen=True, kw_only=True):
    """Sessions that ended lately, the last first, and some that are open, the oldest first."""

    recent: list[Session]
    open: list[Session]
    total_open: int


class Config(Struct, frozen=True, kw_only=True):
    """The configuration that is in force, with every default filled in and secrets hidden."""

    path: str | None
    text: str  # YAML, as `tfo-proxy show` prints it


class Level(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The least important lines to be logged from now on."""

    level: Literal["debug", "info", "warning", "error"]


class Done(Struct, frozen=True, kw_only=True):
    """It has been done, or has begun."""

    ok: bool = True
    state: State
    log_level: str


class Problem(Struct, frozen=True, kw_only=True):
    """Why a request was refused."""

    error: str  # a sentence for people
    do: str = ""  # what would help
