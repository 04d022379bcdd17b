"""One forwarded HTTP request and its response, between a client and a server: as `proxy.net.relay`, message by message.

Like a relay it needs no task: whatever happens on one of the two sockets is dealt with in the worker's `Watch`. Unlike
one it knows where the request and the response end. So it never half-closes towards a server that has not answered,
leaves what a client sends behind its request to the next one, and tells when the client's connection can go on.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from contextlib import suppress

from proxy.core.errnos import Call, meaning
from proxy.core.framing import Chunked, Piece
from proxy.core.http_response import Response
from proxy.core.outcomes import EndedBy, Reason
from proxy.core.reader import Malformed
from proxy.core.request import Forwarded
from proxy.net import sockopt
from proxy.net.watch import BROKEN, EDGE, READ, WRITE, Watch

_EVENTS = READ | WRITE | EDGE
_READABLE = READ | BROKEN
_WRITABLE = WRITE | BROKEN
_TURN = 4  # reads in a row before other sessions get a turn
_CHUNKS = 16 * 1024  # bytes of a chunked body in one read: each of its chunks is looked at


class _Side:
    """One of the two sockets: what it may read, and what is to be written to it. ``moved`` counts what was written."""

    __slots__ = ("blocked", "eof", "fault", "moved", "pending", "readable", "sock")

    finished = False  # a FIN has been sent: as `Flow` has it

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pending: Piece = b""
        self.blocked = False  # its kernel takes no more now
        self.readable = False
        self.eof = False  # it has ended, in order
        self.fault = 0  # errno, once it is broken
        self.moved = 0

    def held(self) -> int:
        """Bytes that are not yet written."""
        return len(self.pending)

    def flush(self) -> bool:
        """Write what is pending; whether nothing is left."""
        while self.pending and not self.blocked and not self.fault:
            try:
                taken = self.sock.send(self.pending, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self.blocked = True
            except OSError as error:
                self.fault = error.errno or errno.EIO
            else:
                self.moved += taken
                self.pending = self.pending[taken:]
        if self.pending:
            self.pending = bytes(self.pending)  # it may be a part of the buffer that sessions share
        return not self.pending


class Exchange:
    """A request on its way to ``upstream``, and its response on the way to ``downstream``.

    When ``ended`` is called: with ``complete`` the client has the whole response, and its connection goes on if
    ``stays``; with ``refusal`` it has none, and is to be told why. Else something broke amid the response, and
    ``survivor`` is the side that has to be told by a reset. ``behind`` is what the client sent behind its request.
    """

    __slots__ = (
        "_again",
        "_buffer",
        "_dropped",
        "_ended",
        "_may_stay",
        "_request",
        "_unsent",
        "_watch",
        "behind",
        "complete",
        "detail",
        "down",
        "ended_by",
        "fault",
        "first_byte",
        "reason",
        "refusal",
        "response",
        "switched",
        "up",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913, PLR0917  # two sockets, two messages, and what all sessions share
        self,
        downstream: socket.socket,
        upstream: socket.socket,
        watch: Watch,
        buffer: memoryview,
        ended: Callable[[], None],
        request: Forwarded,
        response: Response,
        may_stay: Callable[[], bool],
    ) -> None:
        """``ended`` is called once, when all is over. ``may_stay`` tells whether clients' connections may be kept."""
        self.up = _Side(upstream)
        self.down = _Side(downstream)
        self.response = response
        self._request = request
        self._may_stay = may_stay
        self._ended: Callable[[], None] | None = ended
        self._watch = watch
        self._buffer = buffer
        self._dropped = False
        self._again = False
        self._unsent = 0  # errno: the server takes no more of the request
        self.behind = b""
        self.complete = False
        self.switched = False  # 101: both sides speak another protocol from now on, and are still watched
        self.refusal: Reason | None = None
        self.detail = ""
        self.first_byte: float | None = None
        self.ended_by: EndedBy | None = None
        self.reason = Reason.CLOSED
        self.fault: Exception | None = None  # a mistake of ours

    @property
    def stays(self) -> bool:
        """Whether the client's connection goes on."""
        return self.complete and self.response.stays and self._request.body.done

    def start(self, early: bytes, behind: bytes) -> None:
        """Begin with what is left of the request's first bytes; ``behind`` came after the whole request."""
        self.behind = behind
        self.up.pending = early
        if early or not self._request.body.done:
            with suppress(OSError):
                sockopt.send_at_once(self.up.sock)
        self._watch.add(self.down.sock.fileno(), _EVENTS, self._on_downstream)
        self._watch.add(self.up.sock.fileno(), _EVENTS, self._on_upstream)
        self._turn()

    def stop(self) -> None:
        """Watch no more, and call ``ended``. The sockets stay open."""
        ended = self._ended
        self.drop()
        if ended is not None:
            ended()

    def drop(self) -> None:
        """Watch no more, and call nothing."""
        if self._dropped:
            return
        self._dropped = True
        self._ended = None
        if not self.switched:
            self._watch.let_go(self.down.sock.fileno())
            self._watch.forget(self.up.sock.fileno())

    def survivor(self) -> socket.socket | None:
        """After a reset: the side that does not know yet."""
        if self.reason is Reason.CLOSED:
            return None
        return self.down.sock if self.ended_by is EndedBy.UPSTREAM else self.up.sock

    def _on_downstream(self, events: int) -> None:
        if events & _READABLE:
            self.down.readable = True
        if events & _WRITABLE:
            self.down.blocked = False
        if events & BROKEN:
            self.down.fault = sockopt.pending_error(self.down.sock) or errno.ECONNRESET
        self._turn()

    def _on_upstream(self, events: int) -> None:
        if events & _READABLE:
            self.up.readable = True
        if events & _WRITABLE:
            self.up.blocked = False
        self._turn()

    def _turn(self) -> None:
        """Move what can be moved, and draw the consequences."""
        more = False
        try:
            try:
                more = self._send_request()
            except Malformed as bad:
                self._refuse(EndedBy.DOWNSTREAM, Reason.BAD_REQUEST, str(bad))
            try:
                over = self.ended_by is not None or self._pass_response()
            except Malformed as bad:
                self._refuse(EndedBy.UPSTREAM, Reason.BAD_RESPONSE, str(bad))
                over = True
        except Exception as fault:  # noqa: BLE001  # a mistake of ours ends this session, not the worker
            self.fault = fault
            over = True
        if over:
            self.stop()
        elif more or (self.up.readable and not self.down.pending):
            self._turn_later()

    def _turn_later(self) -> None:
        if not self._again:
            self._again = True
            self._watch.again(self._next_turn)

    def _next_turn(self) -> None:
        self._again = False
        if self._ended is not None:
            self._turn()

    def _send_request(self) -> bool:
        """Move the request's body; whether there may be more at once."""
        up, down, body = self.up, self.down, self._request.body
        going_on = up.flush()
        for _ in range(_TURN):
            if not going_on or up.fault or body.done or not down.readable:
                break
            count = self._read(down, body)
            if not count:
                break
            taken, up.pending = body.take(self._buffer[:count])
            if taken < count:
                self.behind = bytes(self._buffer[taken:count])
            going_on = up.flush()
        else:
            return True
        if up.fault:  # what it has said before is still there to be read
            self._unsent, up.fault, up.pending, up.readable = up.fault, 0, b"", True
        return False

    def _read(self, side: _Side, body: object) -> int:
        """Read into the buffer, a part of ``body``; 0: nothing now, or never again."""
        try:
            count = side.sock.recv_into(self._buffer, _CHUNKS if isinstance(body, Chunked) else 0)
        except BlockingIOError:
            side.readable = False
            return 0
        except OSError as error:
            side.readable = False
            side.fault = error.errno or errno.EIO
            return 0
        if not count:
            side.readable = False
            side.eof = True
        return count

    def _pass_response(self) -> bool:
        """Move the response; whether all is over."""
        up, down, response = self.up, self.down, self.response
        going_on = down.flush()
        for _ in range(_TURN):
            if not going_on or down.fault or response.done or response.switched or not up.readable:
                break
            count = self._read(up, response.body)
            if not count:
                break
            if self.first_byte is None:
                self.first_byte = self._watch.clock()
            may_stay = self._request.body.done and self._may_stay()
            down.pending = response.take(self._buffer[:count], may_stay=may_stay)
            going_on = down.flush()
        return self._is_over()

    def _is_over(self) -> bool:
        up, down, response = self.up, self.down, self.response
        if down.fault:
            self._break(EndedBy.DOWNSTREAM, down.fault)
        elif down.pending:
            return False
        elif response.done or response.switched:
            self.complete, self.switched = response.done, response.switched
            self.ended_by = EndedBy.UPSTREAM
        elif down.eof and not self._request.body.done:
            self._refuse(EndedBy.DOWNSTREAM, Reason.BAD_REQUEST, "the client ended amid its request")
        elif up.fault or (up.eof and self._unsent):
            code = up.fault or self._unsent
            if response.began:
                self._break(EndedBy.UPSTREAM, code)
            else:
                self._refuse(
                    EndedBy.UPSTREAM, Reason.RESET, f"the server broke off ({sockopt.errno_name(code)})"
                )
        elif up.eof:
            response.end()
            self.complete = True
            self.ended_by = EndedBy.UPSTREAM
        return self.ended_by is not None

    def _break(self, side: EndedBy, code: int) -> None:
        self.ended_by = side
        self.reason = meaning(Call.RELAY, code)

    def _refuse(self, side: EndedBy, reason: Reason, detail: str) -> None:
        """End it; the client is told why, if it has nothing of the response yet."""
        self.ended_by, self.reason, self.detail = side, reason, detail
        if not self.response.began:
            self.refusal = reason
