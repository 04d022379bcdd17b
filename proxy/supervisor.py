"""Owns the listening sockets and the signals: opens all of them or none, starts the worker, and ends it in order."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator

import trio

from proxy.core.snapshot import Listener, Snapshot
from proxy.memory import Memory
from proxy.net import accept, sockopt
from proxy.telemetry.events import Events
from proxy.worker import Worker

_SYSCTL = "/proc/sys/net/ipv4/tcp_fastopen"
_SERVER_BIT = 2
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


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


async def run(snapshot: Snapshot, events: Events) -> None:
    """Serve until a signal says to stop and the last session has gone; raises `accept.CannotListen`."""
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
                await _obey(signals, worker, memory, opened, events)
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
) -> None:
    async for number in signals:
        if number == signal.SIGUSR1:
            account = memory.ledger.total.plain()
            events.say("status", open_sessions=len(worker.sessions), spares=worker.spares.plain(), **account)
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
                if second != signal.SIGUSR1:
                    events.say("stopped", cut_off=len(worker.sessions))
                    nursery.cancel_scope.cancel()
        return


async def _drain(worker: Worker, limit: float, events: Events, scope: trio.CancelScope) -> None:
    cut_off = await worker.drain(limit)
    events.say("stopped", cut_off=cut_off)
    scope.cancel()


def _announce(snapshot: Snapshot, opened: dict[str, list[socket.socket]], events: Events) -> None:
    for listener in snapshot.listeners:
        for bind, sock in zip(listener.binds, opened[listener.name], strict=True):
            takes = _takes_syn_data(listener, sock)
            where = str(bind) if bind.is_unix or bind.port else f"{bind.host}:{sock.getsockname()[1]}"
            events.listening(listener.name, where, listener.cluster.name, fast_open=takes)
    events.say("ready", pid=os.getpid(), listeners=len(snapshot.listeners))


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
