"""Owns the listening sockets and the signals: opens all of them or none, starts the worker, and ends it in order.

SIGHUP reads the configuration again. What is applied of it so far is `tfo_keys`; the rest waits for a restart, and the
log says so.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

import trio

from proxy.config import ConfigError
from proxy.core.snapshot import Listener, Snapshot
from proxy.memory import Memory
from proxy.net import accept, sockopt
from proxy.telemetry.events import Events
from proxy.worker import Worker

_SYSCTL = "/proc/sys/net/ipv4/tcp_fastopen"
_SERVER_BIT = 2
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
_HARMLESS = frozenset({signal.SIGUSR1, signal.SIGHUP})
_SYN_DATA_ON = "sysctl -w net.ipv4.tcp_fastopen=3, in this network namespace; see `tfo-proxy doctor`"


def open_listeners(snapshot: Snapshot) -> dict[str, list[socket.socket]]:
    """A listening socket for every bind, by listener; raises `accept.CannotListen`, and then none stays open."""
    opened: dict[str, list[socket.socket]] = {}
    try:
        for listener in snapshot.listeners:
            sockets = opened.setdefault(listener.name, [])
            for bind in listener.binds:
                sockets.append(accept.listen(listener, bind, snapshot.tfo_keys))
    except accept.CannotListen:
        close_listeners(opened)
        raise
    return opened


def close_listeners(opened: dict[str, list[socket.socket]]) -> None:
    """Stop listening everywhere."""
    for sockets in opened.values():
        for sock in sockets:
            accept.close_listener(sock)


def rekey(opened: Mapping[str, Sequence[socket.socket]], keys: tuple[bytes, ...]) -> int:
    """Give open listeners new Fast Open keys, newest first; how many took them. No SYN is lost meanwhile.

    Listeners that do no Fast Open are left alone. Keys cannot be taken away: the kernel has no way to.
    """
    taken = 0
    for sock in (sock for sockets in opened.values() for sock in sockets):
        if sock.family != socket.AF_UNIX and sockopt.fast_open_queue(sock):
            sockopt.set_keys(sock, keys)
            taken += 1
    return taken


async def run(snapshot: Snapshot, events: Events, reread: Callable[[], Snapshot] | None = None) -> None:
    """Serve until a signal says to stop and the last session has gone; raises `accept.CannotListen`.

    ``reread`` reads the configuration again, and raises `ConfigError`; it is called in a thread.
    """
    opened = open_listeners(snapshot)
    memory = Memory(snapshot.state, events)
    memory.load(trio.current_time())
    worker = Worker(snapshot, memory, events, takes_syn_data=_server_bit())
    try:
        with trio.open_signal_receiver(*_SIGNALS) as signals:
            async with trio.open_nursery() as nursery:
                await nursery.start(worker.run, opened)
                nursery.start_soon(memory.save_now_and_then)
                _announce(snapshot, opened, events)
                await _obey(signals, worker, memory, opened, events, reread)
                nursery.cancel_scope.cancel()
    finally:
        close_listeners(opened)
        memory.save(trio.current_time())


async def _obey(
    signals: AsyncIterator[int],
    worker: Worker,
    memory: Memory,
    opened: dict[str, list[socket.socket]],
    events: Events,
    reread: Callable[[], Snapshot] | None,
) -> None:
    async for number in signals:
        if number == signal.SIGUSR1:
            account = memory.ledger.total.plain()
            events.say("status", open_sessions=len(worker.sessions), spares=worker.spares.plain(), **account)
            continue
        if number == signal.SIGHUP:
            await _reread(worker, opened, events, reread)
            worker.warm_up()
            continue
        snapshot = worker.snapshot
        close_listeners(opened)
        events.say(
            "draining",
            signal=signal.Signals(number).name,
            sessions=len(worker.sessions),
            limit=snapshot.drain,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain, worker, snapshot.drain, events, nursery.cancel_scope)
            async for second in signals:
                if second not in _HARMLESS:
                    nursery.cancel_scope.cancel()
                    events.say("stopped", cut_off=worker.cut_off())
        return


async def _reread(
    worker: Worker,
    opened: Mapping[str, Sequence[socket.socket]],
    events: Events,
    reread: Callable[[], Snapshot] | None,
) -> None:
    """Take over what may change while we run: so far, the keys."""
    if reread is None:
        events.warn("not_reloaded", why="there is no configuration to read again")
        return
    try:
        wanted = await trio.to_thread.run_sync(reread)
    except ConfigError as mistakes:
        events.warn("not_reloaded", why=str(mistakes))
        return
    running = worker.snapshot
    if wanted.tfo_keys and wanted.tfo_keys != running.tfo_keys:
        try:
            listeners = rekey(opened, wanted.tfo_keys)
        except OSError as error:
            events.warn("not_reloaded", why=f"tfo_keys: {os.strerror(error.errno or 0)}")
            return
        running = worker.snapshot = replace(running, tfo_keys=wanted.tfo_keys)
        events.say("reloaded", tfo_keys=len(wanted.tfo_keys), listeners=listeners)
    else:
        events.say("reloaded", unchanged="tfo_keys")
    if wanted != running:
        events.warn(
            "restart_needed", why="SIGHUP applies new tfo_keys only; everything else that has changed waits"
        )


async def _drain(worker: Worker, limit: float, events: Events, scope: trio.CancelScope) -> None:
    cut_off = await worker.drain(limit)
    events.say("stopped", cut_off=cut_off)
    scope.cancel()


def _announce(snapshot: Snapshot, opened: dict[str, list[socket.socket]], events: Events) -> None:
    for listener in snapshot.listeners:
        for bind, sock in zip(listener.binds, opened[listener.name], strict=True):
            takes = _takes_syn_data(listener, sock)
            where = str(bind) if bind.is_unix or bind.port else str(replace(bind, port=sock.getsockname()[1]))
            events.listening(listener.name, where, listener.cluster.name, fast_open=takes)
    _warn_of_deaf_listeners(snapshot, opened, events)
    for cluster in snapshot.clusters.values():
        if cluster.source is not None and (problem := sockopt.source_problem(cluster.source)):
            events.warn("no_source", cluster=cluster.name, problem=problem)
    events.say("ready", pid=os.getpid(), listeners=len(snapshot.listeners))


def _warn_of_deaf_listeners(
    snapshot: Snapshot, opened: Mapping[str, Sequence[socket.socket]], events: Events
) -> None:
    """Say where SYN data was wanted and will not be taken, or less of it, and what mends that."""
    wanting = [listener for listener in snapshot.listeners if listener.fast_open]
    queues = {
        listener.name: min(map(sockopt.fast_open_queue, sockets))
        for listener in wanting
        if (sockets := [sock for sock in opened[listener.name] if sock.family != socket.AF_UNIX])
    }
    deaf = list(queues) if not _server_bit() else [name for name, queue in queues.items() if not queue]
    if deaf:
        events.warn("no_syn_data", listeners=deaf, do=_SYN_DATA_ON)
    for listener in wanting:
        queue = queues.get(listener.name, 0)
        if 0 < queue < listener.backlog:
            do = f"sysctl -w net.core.somaxconn={listener.backlog}, in this network namespace"
            events.warn("short_queue", listener=listener.name, backlog=listener.backlog, allowed=queue, do=do)


def _takes_syn_data(listener: Listener, sock: socket.socket) -> bool:
    """Whether the kernel will really take SYN data here: the option alone does nothing without the sysctl's bit."""
    if not listener.fast_open or sock.family == socket.AF_UNIX or not sockopt.fast_open_queue(sock):
        return False
    return _server_bit()


def _server_bit() -> bool:
    """Whether this network namespace lets servers take SYN data."""
    try:
        with open(_SYSCTL, encoding="ascii") as file:
            return bool(int(file.read()) & _SERVER_BIT)
    except (OSError, ValueError):
        return False
