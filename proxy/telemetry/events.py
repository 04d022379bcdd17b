"""What is logged: one line a session, and one for everything an operator should act on."""

from __future__ import annotations

import errno
import os
from functools import partial
from time import monotonic  # noqa: TID251  # records are written by this clock
from time import time as wall_clock  # noqa: TID251  # the log writes its own time

from proxy.core.address import Endpoint
from proxy.core.clusters import Cluster
from proxy.core.record import SessionRecord
from proxy.telemetry.lines import Lines
from proxy.telemetry.logs import Logger, lines_of
from proxy.telemetry.sessions import session_fields, session_id, session_line

__all__ = ["Events", "session_fields", "session_id"]

_MICRO = 6
_SWITCH_ON = {
    errno.EOPNOTSUPP: "sysctl -w net.ipv4.tcp_fastopen=1 in this network namespace (bit 1 is the client's)",
}


class Events:
    """The words, in one place, so that they can be searched for and stay the same."""

    _lines: Lines | None = None  # where the lines go

    def __init__(self, log: Logger) -> None:
        self.use(log)

    def use(self, log: Logger) -> None:
        """Log there from now on: another level, another form."""
        self._log = log
        self._lines = lines_of(log)

    @property
    def lines_lost(self) -> int:
        """Log lines that this process could not write."""
        return 0 if self._lines is None else self._lines.lost

    def start_writing(self) -> None:
        """Write in a thread from now on, so that nothing waits for a reader; to be called without privileges."""
        if self._lines is not None:
            self._lines.start(lambda count: self._log.warning("log_lines_lost", count=count))

    def finish_writing(self) -> None:
        """Write what waits, for a second at most; to be called before the process may be killed."""
        if self._lines is not None:
            self._lines.finish()

    def session(self, record: SessionRecord) -> None:
        """The one line of a finished session."""
        if self._lines is None or not self._lines.takes_sessions:
            self._log.info("session", **session_fields(record))
        else:
            now = wall_clock()
            self._lines.later(partial(session_line, record, now, now - (monotonic() - record.began)))

    async def keep_writing(self) -> None:
        """Write session lines some milliseconds late and many at a time, which is cheaper, until cancelled."""
        if self._lines is not None:
            await self._lines.keep_writing()

    def fault(self, record: SessionRecord, fault: BaseException) -> None:
        """A mistake of ours that ended one session."""
        self._log.error("session_fault", id=session_id(record), exc_info=fault)

    def background_fault(self, work: str, fault: BaseException) -> None:
        """A mistake of ours in something the service can do without."""
        self._log.error("background_fault", work=work, exc_info=fault)

    def listening(self, listener: str, bind: str, cluster: str, *, fast_open: bool) -> None:
        """A listener is open."""
        self._log.info("listening", listener=listener, bind=bind, to=cluster, fast_open=fast_open)

    def accept_trouble(self, listener: str, error: OSError) -> None:
        """accept(2) failed; said once a second and listener at most."""
        self._log.warning(
            "accept_trouble",
            listener=listener,
            error=os.strerror(error.errno or 0),
            errno=errno.errorcode.get(error.errno or 0),
        )

    def fast_open_unavailable(self, code: int) -> None:
        """The kernel would not fast-open at all: every dial is plain until somebody switches it on."""
        self._log.warning(
            "fast_open_unavailable",
            error=os.strerror(code),
            errno=errno.errorcode.get(code),
            do=_SWITCH_ON.get(
                code, "see `tfo-proxy doctor`: this kernel or sandbox has no TCP Fast Open for clients"
            ),
        )

    def say(self, event: str, **fields: object) -> None:
        """Something about the program itself: started, draining, stopped."""
        self._log.info(event, **fields)

    def warn(self, event: str, **fields: object) -> None:
        """Something that works, and not as it was meant to."""
        self._log.warning(event, **fields)

    def nonces_not_kept(self, why: str) -> None:
        """What has come through tunnels is remembered by this process only."""
        self._log.warning("nonces_not_kept", why=why)

    def endpoint_health(self, cluster: Cluster, endpoint: Endpoint, healthy: bool, problem: str) -> None:
        """Health checks have changed what is believed of an endpoint."""
        where = {"cluster": cluster.name, "endpoint": str(endpoint)}
        if healthy:
            self._log.info("endpoint_up", **where)
        else:
            self._log.warning("endpoint_down", **where, problem=problem)

    def endpoint_ejected(self, cluster: Cluster, endpoint: Endpoint, seconds: float | None) -> None:
        """Dials to an endpoint have failed, and it is left alone for so long; None: one has worked again."""
        where = {"cluster": cluster.name, "endpoint": str(endpoint)}
        if seconds is None:
            self._log.info("endpoint_back", **where)
        else:
            self._log.warning("endpoint_ejected", **where, seconds=round(seconds, _MICRO))
