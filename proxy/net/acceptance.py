"""The far side of a tunnel says at once that it takes an opening, so its silence is the path's.

That word is waited for after a fast open that carried an opening. Where it does not come in time, a plain connection is
made beside; it is for the caller to open that one anew, and until he does, nothing on it can matter to the far side.
"""

from __future__ import annotations

import socket

import trio

from proxy.core.evidence import Evidence
from proxy.core.fastopen import PLAIN_PLAN
from proxy.core.outcomes import Reason
from proxy.core.tunnel import ACCEPTED
from proxy.net import dial, sockopt
from proxy.net.upstream import DialFailed, Upstream
from proxy.net.watch import Watch

_REFUSED = "the far side of the tunnel closed without a word: its log says why (key, clock, a replay)"


async def say_all(sock: socket.socket, data: bytes, timeout: float) -> None:
    """Send all of it; raises `DialFailed`, and then the socket is closed."""
    try:
        with trio.fail_after(timeout):
            while data:
                try:
                    data = data[sock.send(data, socket.MSG_NOSIGNAL) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(sock)
    except trio.TooSlowError:
        sock.close()
        raise DialFailed(Reason.CONNECT_TIMEOUT, why="the far side takes nothing more") from None
    except OSError as error:
        sock.close()
        raise DialFailed.because(error.errno or 0) from None
    except BaseException:
        sock.close()
        raise


async def accepted(primary: Upstream, watch: Watch, doubt_at: float, timeout: float) -> Upstream:
    """``primary``, once the word has come on it; else a plain connection to the same endpoint, and the other is closed.

    ``timeout``: how long a plain dial may take after ``doubt_at``. Raises `DialFailed`; then no socket is left.
    """
    waiting = _Waiting(primary, watch)
    try:
        return await waiting.run(doubt_at, timeout)
    except BaseException:
        primary.sock.close()
        raise


def _mark(upstream: Upstream, result: str) -> None:
    if upstream.dial is not None:
        upstream.dial.result = result


class _Waiting:
    def __init__(self, primary: Upstream, watch: Watch) -> None:
        self._primary = primary
        self._watch = watch
        self._accepted = self._broken = False
        self._second: Upstream | None = None
        self._failure: DialFailed | None = None

    async def run(self, doubt_at: float, timeout: float) -> Upstream:
        with trio.move_on_at(doubt_at):
            await self._listen()
        if not self._accepted:
            with trio.move_on_after(timeout):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen, nursery.cancel_scope)
                    nursery.start_soon(self._dial, nursery.cancel_scope, timeout)
        primary, second = self._primary, self._second
        if self._accepted:  # nothing has been said on the other one
            if second is not None:
                _mark(second, "lost")
                second.sock.close()
            return primary
        if second is None:
            raise self._failure or DialFailed(Reason.CONNECT_TIMEOUT, why="the far side does not answer")
        _mark(primary, "silent")
        sockopt.reset_on_close(primary.sock)  # the far side should know at once
        primary.sock.close()
        return second

    async def _listen(self, done: trio.CancelScope | None = None) -> None:
        """Until the word has come, or the connection is broken; raises `DialFailed` where it was closed in order."""
        while not self._broken:
            try:
                word = self._primary.sock.recv(len(ACCEPTED))
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._primary.sock)
                continue
            except OSError:
                self._broken = True
                return
            if word == ACCEPTED:
                self._accepted = True
            else:
                self._failure = DialFailed(Reason.NOT_PERMITTED, why=_REFUSED)
                self._broken = True
            if done is not None:
                done.cancel()
            return

    async def _dial(self, done: trio.CancelScope, timeout: float) -> None:
        """A plain connection; where there is none to be had, the first one may still be accepted."""
        primary = self._primary
        if self._failure is not None:
            done.cancel()
            return
        try:
            clock, source = self._watch.clock, primary.source
            attempt = dial.begin(primary.endpoint, b"", PLAIN_PLAN, clock, source, primary.dials, "doubt")
            second = await dial.connect(primary.endpoint, attempt, self._watch, timeout)
        except DialFailed as failed:
            self._failure = failed
            if self._broken:
                done.cancel()
            return
        second.syn_bytes, second.started, second.hedged = primary.syn_bytes, primary.started, True
        second.evidence, second.repeated = Evidence.SILENT, primary.sent
        self._second = second
        done.cancel()
