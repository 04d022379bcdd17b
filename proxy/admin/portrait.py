"""The house as the views of the API: every sum and word that it shows is made here."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import trio

from proxy import __version__
from proxy.admin import tally, views, words
from proxy.admin.cookies import Cookies
from proxy.admin.house import Census, House
from proxy.admin.minutes import Minutes, mark
from proxy.core.account import FIRST_BYTE_BOUNDS, Account
from proxy.core.address import Endpoint
from proxy.core.clusters import Cluster
from proxy.core.fastopen import Standing, State
from proxy.core.record import SessionRecord
from proxy.core.warming import Warmth
from proxy.telemetry.events import session_id
from proxy.telemetry.region import OfListener
from proxy.telemetry.sums import Sums, add_up

CONDITIONS = ("down", "ejected", "failing", "quarantined", "ok", "unused")
"""What an endpoint may be, the worst first."""

MOST_LISTED = 10_000
_UNUSED: tuple[Account, set[str]] = (Account(), set())
LOOK_AGAIN = 0.2  # seconds


class _Trouble(NamedTuple):
    condition: str
    since: float | None  # monotonic seconds
    error: str
    clusters: frozenset[str]


@dataclass(slots=True)
class Portrait:
    """What the API shows of a house. ``wall`` tells the seconds since 1970."""

    house: House
    wall: Callable[[], float]
    cookies: Cookies = field(default_factory=Cookies)
    _began: float = field(init=False)
    minutes: Minutes = field(init=False)
    _counted: tuple[float, Census] = field(init=False, default=(-LOOK_AGAIN, Census({}, ())))

    def __post_init__(self) -> None:
        self._began = trio.current_time()  # somebody may set the other clock
        former = [region for region in self.house.regions if region.former]
        self.minutes = Minutes(self._began, mark(add_up(former).total))

    def look(self) -> Sums:
        """What has been counted so far; the ring of minutes hears of it, too."""
        sums = add_up(self.house.regions)
        self.minutes.look(mark(sums.total), trio.current_time())
        return sums

    def _census(self) -> Census:
        """What is open; where ten thousand sessions are, counting them is not free."""
        now = trio.current_time()
        if now - self._counted[0] >= LOOK_AGAIN:
            self._counted = now, self.house.census()
        return self._counted[1]

    def status(self) -> views.Status:
        """The whole at a glance."""
        house, wall, sums = self.house, self.wall(), self.look()
        uptime = trio.current_time() - self._began
        trips, seconds = self.minutes.per_minute(trio.current_time())
        done, refused = house.reloads()
        return views.Status(
            version=__version__,
            python=platform.python_version(),
            pid=os.getpid(),
            state=house.state,
            now=wall,
            began=wall - uptime,
            uptime=uptime,
            counted_since=wall - (trio.current_time() - house.since),
            config=house.config_path,
            log_level=house.log_level,
            bounds=list(FIRST_BYTE_BOUNDS),
            total=tally.of_numbers(sums.total, sums.endings_of(), _open(sums)),
            minutes=self.minutes.views(wall - uptime),
            saved_per_minute=trips,
            seconds_saved_per_minute=seconds,
            standings=dict(Counter(str(standing.state) for _, standing in house.standings)),
            workers=list(house.workers()),
            reloads=done,
            reloads_failed=refused,
            last_reload=house.last_reload(),
            takes_orders=house.snapshot.admin is not None and house.snapshot.admin.token is not None,
            warm_up=self._warm_up(wall),
            notes=self._notes(),
        )

    def listeners(self) -> views.Listeners:
        """All listeners of the configuration in force."""
        house, sums = self.house, self.look()
        places = house.places()
        return views.Listeners(
            listeners=[
                views.Listener(
                    name=listener.name,
                    mode=listener.mode,
                    places=list(places.get(listener.name, ())),
                    to=listener.cluster.name,
                    tally=tally.of_numbers(
                        sums.of_listener(listener.name),
                        sums.endings_of(listener=listener.name),
                        _open(sums, listener.name),
                    ),
                    accepted=int(sums.listeners.get(listener.name, [0])[0]),
                    refused={why: n for (name, why), n in sums.refused.items() if name == listener.name},
                )
                for listener in house.snapshot.listeners
            ]
        )

    def clusters(self) -> views.Clusters:
        """Those of the configuration, and those that had sessions."""
        house, sums, outages = self.house, self.look(), self.house.outages()
        snapshot = house.snapshot
        open_now = _sum_by(self._census().by_way, lambda way: way[1])
        known = {**snapshot.clusters, **{one.cluster.name: one.cluster for one in snapshot.listeners}}
        known.setdefault(snapshot.direct.name, snapshot.direct)
        names = sorted({*known, *(cluster for (_, cluster), numbers in sums.ways.items() if numbers[0])})
        found: list[views.Cluster] = []
        for name in names:
            cluster = known.get(name)
            out = outages.get(_dialled(cluster)) if cluster else None
            found.append(
                views.Cluster(
                    name=name,
                    endpoints=[str(endpoint) for endpoint in cluster.endpoints] if cluster else [],
                    fast_open=cluster.fast_open if cluster else "",
                    balance=cluster.balance if cluster else "",
                    members=out.members if out else len(cluster.only) or None if cluster else None,
                    down=sorted(map(str, out.down)) if out else [],
                    ejected=sorted(map(str, out.ejected)) if out else [],
                    tally=tally.of_numbers(
                        sums.of_cluster(name), sums.endings_of(cluster=name), open_now[name]
                    ),
                )
            )
        return views.Clusters(clusters=found)

    def endpoints(self, limit: int) -> views.Endpoints:
        """At most ``limit`` endpoints: those in trouble, those used last, all others of the configuration."""
        house = self.house
        open_now = _sum_by(self._census().by_way, lambda way: way[2])
        used = house.ledger.latest(limit)
        clusters = self._configured()
        troubles = self._troubles()
        for endpoint, (_, names) in used.items():
            clusters.setdefault(endpoint, set()).update(names)
        for endpoint, trouble in troubles.items():
            clusters.setdefault(endpoint, set()).update(trouble.clusters)
        for endpoint, _ in reversed(list(house.standings)):
            if len(clusters) >= limit:
                break
            clusters.setdefault(endpoint, set())
        order = {endpoint: number for number, endpoint in enumerate(dict.fromkeys((*used, *clusters)))}
        conditions = {
            endpoint: self._condition(endpoint, troubles.get(endpoint), used.get(endpoint, _UNUSED)[0])
            for endpoint in order
        }
        first = sorted(
            order, key=lambda endpoint: (CONDITIONS.index(conditions[endpoint][0]), order[endpoint])
        )
        return views.Endpoints(
            endpoints=[
                self._endpoint(
                    endpoint,
                    used.get(endpoint, _UNUSED)[0],
                    clusters[endpoint],
                    open_now[endpoint],
                    conditions[endpoint],
                )
                for endpoint in first[:limit]
            ],
            total=len(house.standings) + sum(house.standings.peek(endpoint) is None for endpoint in order),
            conditions=dict(Counter(condition for condition, _, _ in conditions.values())),
        )

    def _configured(self) -> dict[Endpoint, set[str]]:
        """The endpoints that the configuration names by address, and the clusters that do."""
        found: dict[Endpoint, set[str]] = {}
        snapshot = self.house.snapshot
        clusters = {**snapshot.clusters, **{one.cluster.name: one.cluster for one in snapshot.listeners}}
        for cluster in clusters.values():
            for endpoint in cluster.endpoints:
                if isinstance(endpoint, Endpoint) and cluster.via is None and len(found) < MOST_LISTED:
                    found.setdefault(endpoint, set()).add(cluster.name)
        return found

    def _troubles(self) -> dict[Endpoint, _Trouble]:
        """Endpoints that do not work, as the clusters' outages tell."""
        found: dict[Endpoint, _Trouble] = {}
        for name, outages in self.house.outages().items():
            for condition in ("failing", "ejected", "down"):  # the worse one stays
                for endpoint in getattr(outages, condition):
                    since, error = outages.troubles.get(endpoint, (None, ""))
                    names = found[endpoint].clusters if endpoint in found else frozenset[str]()
                    found[endpoint] = _Trouble(condition, since, error, names | {name.partition(" via ")[0]})
        return found

    def _condition(
        self, endpoint: Endpoint, trouble: _Trouble | None, account: Account
    ) -> tuple[str, str, float | None]:
        """The condition of an endpoint, the error, and since when (monotonic seconds)."""
        if trouble is not None and not (
            trouble.condition == "failing" and account.reached_at > account.failed_at
        ):
            return trouble.condition, trouble.error, trouble.since
        if account.is_failing:
            return "failing", account.error, account.failing_since
        standing = self.house.standings.peek(endpoint)
        if standing is not None and standing.state in {State.QUARANTINED, State.PROBING}:
            return "quarantined", "", None
        return ("ok" if account.sessions or standing is not None else "unused"), "", None

    def sessions(self, limit: int) -> views.Sessions:
        """Lately ended ones, and open ones."""
        census = self._census()
        recent = list(self.house.recent())[::-1][:limit]
        return views.Sessions(
            recent=recent, open=list(census.oldest)[:limit], total_open=_open(add_up(self.house.regions))
        )

    def config(self) -> views.Config:
        """The configuration in force."""
        return views.Config(path=self.house.config_path, text=self.house.config_text())

    def _endpoint(
        self,
        endpoint: Endpoint,
        account: Account,
        clusters: Iterable[str],
        open_now: int,
        condition: tuple[str, str, float | None],
    ) -> views.Endpoint:
        now, wall = trio.current_time(), self.wall()
        standing = self.house.standings.peek(endpoint) or Standing()
        since = condition[2]
        return views.Endpoint(
            endpoint=str(endpoint),
            clusters=sorted(clusters),
            condition=condition[0],
            error=condition[1],
            since=wall - (now - since) if since is not None else None,
            standing=standing.state,
            why=words.why(standing, now, wall),
            until=words.until(standing, now, wall),
            times=words.times(standing),
            cause=standing.cause,
            syn_data=standing.syn_data,
            healthy=self.house.health(endpoint),
            cookie=self.cookies.of(endpoint),
            rtt=standing.rtt,
            rtt_variation=standing.rtt_variation if standing.rtt is not None else None,
            tally=tally.of_account(account, open_now),
        )

    def _warm_up(self, wall: float) -> views.WarmUp | None:
        if (warming := self.house.warming()) is None:
            return None
        return views.WarmUp(
            began=wall - (trio.current_time() - warming.began),
            seconds=warming.lasted,
            is_over=warming.over,
            endpoints=warming.endpoints,
            waiting=warming.waiting,
            **{warmth: warming.number(warmth) for warmth in Warmth},
        )

    def _notes(self) -> list[str]:
        """What an operator should know now."""
        notes: list[str] = []
        reload = self.house.last_reload()
        if reload is not None and not reload.ok:
            notes.append(
                f"The configuration was changed and refused at {words.clock(reload.at)}; what ran before runs on."
            )
        if self.house.state == "draining":
            notes.append("It is draining: no new connections are taken, sessions end by themselves.")
        notes += [
            f"Worker {worker.number} is not running: {worker.state}."
            for worker in self.house.workers()
            if worker.state == "down"
        ]
        if self.cookies.problem:
            notes.append(f"Cookies cannot be shown: {self.cookies.problem}.")
        deaf = [
            name
            for name, places in self.house.places().items()
            if places and self._wants_syn_data(name) and not any(place.fast_open for place in places)
        ]
        if deaf:
            notes.append(
                f"Clients' SYN data is not taken by {', '.join(deaf)}: set bit 2 of net.ipv4.tcp_fastopen in this"
                " network namespace; `tfo-proxy doctor` says more."
            )
        return notes

    def _wants_syn_data(self, name: str) -> bool:
        return any(
            one.name == name and one.fast_open and not all(bind.is_unix for bind in one.binds)
            for one in self.house.snapshot.listeners
        )


def session(record: SessionRecord, now: float, wall: float, *, is_open: bool = False) -> views.Session:
    """One session's row; ``now`` is the clock that the record was written by, ``wall`` seconds since 1970."""
    return views.Session(
        id=session_id(record),
        listener=record.listener,
        client=record.client,
        cluster=record.cluster,
        began=wall - (now - record.began),
        duration=now - record.began if is_open else record.duration,
        is_open=is_open,
        endpoint=str(record.endpoint) if record.endpoint is not None else None,
        mode=record.mode,
        authority=str(record.authority) if record.authority is not None else None,
        user=record.user,
        protocol=record.protocol,
        open=record.open,
        syn_bytes=record.syn_bytes,
        evidence=record.evidence,
        standing_after=record.standing_after,
        waited=record.waited,
        dial_time=record.dial_time,
        first_byte=record.first_byte,
        rtt=record.rtt,
        saved=record.saved,
        lost=record.lost,
        hedged=record.hedged,
        redialled=record.redialled,
        up_bytes=record.up_bytes,
        down_bytes=record.down_bytes,
        ended_by="" if is_open else record.ended_by,
        during=record.during,
        reason="" if is_open else record.reason,
        detail=record.detail,
    )


def _dialled(cluster: Cluster) -> str:
    """The name under which its endpoints, or its gateway's, are kept."""
    return cluster.name if cluster.via is None else f"{cluster.name} via {cluster.via.gateway}"


def _open(sums: Sums, listener: str | None = None) -> int:
    """Sessions that are open, of one listener or of all: of the counters, which know it at once."""
    of_all = sums.listeners.items()
    return int(sum(numbers[OfListener.OPEN] for name, numbers in of_all if listener in {None, name}))


def _sum_by(
    census: Mapping[tuple[str, str, Endpoint | None], int],
    key: Callable[[tuple[str, str, Endpoint | None]], object],
) -> Counter[object]:
    sums: Counter[object] = Counter()
    for way, number in census.items():
        sums[key(way)] += number
    return sums
