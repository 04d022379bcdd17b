"""The whole of ``/metrics``: what workers count, and what only the house knows."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Sequence

from proxy import __version__
from proxy.admin import views
from proxy.admin.house import House
from proxy.admin.portrait import Portrait
from proxy.core.address import Endpoint
from proxy.core.fastopen import Standing, State
from proxy.core.warming import Warmth
from proxy.telemetry import families, processes
from proxy.telemetry.exposition import Exposition

MOST_ENDPOINTS = 200  # with series of their own; the others are told together
OTHER = "other"


class Metrics:
    """Text for scrapers."""

    def __init__(self, house: House, portrait: Portrait) -> None:
        self._house, self._portrait = house, portrait
        self._answers: Counter[int] = Counter()
        self._named: dict[Endpoint, None] = {}  # whoever has series keeps them while he is known at all

    def answered(self, status: int) -> None:
        """A request to the admin was answered so."""
        self._answers[status] += 1

    async def expose(self, *, open_metrics: bool) -> tuple[bytes, str]:
        """The text and its type."""
        await self._portrait.cookies.refresh()
        out = Exposition(open_metrics=open_metrics)
        self._expose_program(out)
        families.expose(self._portrait.look(), out)
        self._expose_warm_up(out)
        self._expose_endpoints(out)
        self._expose_workers(out, self._house.workers())
        _expose_process(out)
        return out.body(), out.content_type

    def _expose_program(self, out: Exposition) -> None:
        house = self._house
        out.family("build_info", "gauge", "Always 1; the labels say what runs.")
        out.sample(1, {"version": __version__, "python": platform.python_version()})
        out.family("ready", "gauge", "1 while every listener is open and new connections are taken.")
        out.sample(int(house.state == "ready"))
        out.family("draining", "gauge", "1 while running sessions may end and no new ones begin.")
        out.sample(int(house.state == "draining"))
        done, refused = house.reloads()
        last = house.last_reload()
        out.family("config_reloads_total", "counter", "Reloads that were done.")
        out.sample(done)
        out.family("config_reload_failures_total", "counter", "Reloads that were refused for mistakes.")
        out.sample(refused)
        out.family("config_last_reload_successful", "gauge", "0 if the configuration was last refused.")
        out.sample(int(last is None or last.ok))
        if last is not None:
            out.family("config_last_reload_timestamp_seconds", "gauge", "When it was last read again.")
            out.sample(last.at)
        out.family("admin_requests_total", "counter", "Requests to the admin address, by status.")
        for status, number in sorted(self._answers.items()):
            out.sample(number, {"code": str(status)})

    def _expose_warm_up(self, out: Exposition) -> None:
        warming = self._house.warming()
        if warming is None:
            return
        out.family("warm_up_endpoints", "gauge", "Endpoints of the warm-up by what became of them so far.")
        out.sample(warming.waiting, {"outcome": "waiting"})
        for warmth in Warmth:
            out.sample(warming.number(warmth), {"outcome": warmth})
        out.family("warm_up_seconds", "gauge", "How long the last warm-up took, or has taken so far.")
        out.sample(warming.lasted)

    def _expose_endpoints(self, out: Exposition) -> None:
        standings = self._house.standings
        named = self._choose()
        others: Counter[State] = Counter(
            standing.state for endpoint, standing in standings if endpoint not in named
        )
        all_of_them = others + Counter(standing.state for standing in named.values())
        out.family("endpoints", "gauge", "Endpoints by what is believed of their Fast Open.")
        for state in State:
            out.sample(all_of_them[state], {"standing": state})
        out.family(
            "endpoint_standing",
            "gauge",
            "1 for what is believed of an endpoint's Fast Open; how many, for those without series of their own.",
        )
        for endpoint, standing in named.items():
            out.sample(1, {"endpoint": str(endpoint), "standing": standing.state})
        for state, number in others.items():
            out.sample(number, {"endpoint": OTHER, "standing": state})
        out.family("endpoint_cookie", "gauge", "1 if the kernel holds a cookie for an endpoint.")
        for endpoint in named:
            out.sample(int(self._portrait.cookies.of(endpoint).known), {"endpoint": str(endpoint)})
        out.family("endpoint_rtt_seconds", "gauge", "The smoothed round trip to an endpoint.")
        for endpoint, standing in named.items():
            if standing.rtt is not None:
                out.sample(standing.rtt, {"endpoint": str(endpoint)})
        out.family("endpoint_healthy", "gauge", "What health checks say of an endpoint, where there are any.")
        for endpoint in named:
            healthy = self._house.health(endpoint)
            if healthy is not None:
                out.sample(int(healthy), {"endpoint": str(endpoint)})

    def _choose(self) -> dict[Endpoint, Standing]:
        """The endpoints that get series of their own."""
        standings = self._house.standings
        self._named = {endpoint: None for endpoint in self._named if standings.peek(endpoint) is not None}
        for endpoint, _ in standings:
            if len(self._named) >= MOST_ENDPOINTS:
                break
            self._named.setdefault(endpoint)
        return {
            endpoint: standing
            for endpoint in self._named
            if (standing := standings.peek(endpoint)) is not None
        }

    def _expose_workers(self, out: Exposition, workers: Sequence[views.Worker]) -> None:
        used = [(worker, processes.usage(worker.pid) if worker.pid else None) for worker in workers]
        out.family("worker_up", "gauge", "1 while a worker runs.")
        for worker, usage in used:
            out.sample(int(usage is not None and worker.state != "down"), _label(worker))
        out.family("worker_open_sessions", "gauge", "Sessions that are open in a worker.")
        for worker, _ in used:
            out.sample(worker.open, _label(worker))
        out.family(
            "worker_tasks",
            "gauge",
            "Tasks of a worker: a few of its own, and one for each session that waits for more than bytes.",
        )
        for worker, _ in used:
            out.sample(worker.tasks, _label(worker))
        out.family("worker_restarts_total", "counter", "How often a worker had to be replaced.")
        for worker, _ in used:
            out.sample(worker.restarts, _label(worker))
        _expose_usage(out, used)


def _expose_usage(out: Exposition, used: Sequence[tuple[views.Worker, processes.Usage | None]]) -> None:
    """What the kernel knows of workers."""
    out.family("worker_cpu_seconds_total", "counter", "Processor time of a worker.")
    for worker, usage in used:
        if usage is not None:
            out.sample(usage.cpu, _label(worker))
    out.family("worker_resident_memory_bytes", "gauge", "Memory of a worker.")
    for worker, usage in used:
        if usage is not None:
            out.sample(usage.resident, _label(worker))
    out.family("worker_open_fds", "gauge", "File descriptors that a worker has open.")
    for worker, usage in used:
        if usage is not None:
            out.sample(usage.descriptors, _label(worker))


def _label(worker: views.Worker) -> dict[str, str]:
    return {"worker": str(worker.number)}


def _expose_process(out: Exposition) -> None:
    """The usual names, of the process that answers."""
    usage = processes.usage(os.getpid())
    if usage is None:
        return
    out.family("cpu_seconds_total", "counter", "Processor time.", prefix="process_")
    out.sample(usage.cpu)
    out.family("resident_memory_bytes", "gauge", "Resident memory.", prefix="process_")
    out.sample(usage.resident)
    out.family("virtual_memory_bytes", "gauge", "Virtual memory.", prefix="process_")
    out.sample(usage.virtual)
    out.family("open_fds", "gauge", "Open file descriptors.", prefix="process_")
    out.sample(usage.descriptors)
    out.family("max_fds", "gauge", "Most file descriptors there may be.", prefix="process_")
    out.sample(processes.most_descriptors())
    out.family("start_time_seconds", "gauge", "When the process began, since 1970.", prefix="process_")
    out.sample(usage.started)
