"""Dial an endpoint a handful of times and find out what its path does with Fast Open. Needs no privilege.

What is sent is safe to be sent twice; without a payload no byte is sent at all. Each trial is a connection of its
own, made by the same call as the proxy's dials and read by the same eyes (`core.evidence`).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence, read_handshake
from proxy.core.fastopen import PLAIN_PLAN, SMALL_SYN, Open, Plan
from proxy.core.outcomes import Reason
from proxy.core.verdict import Abilities, Load, Reaction, Step, Trial, Verdict, decide
from proxy.net import dial, sockopt
from proxy.net.cookies import CookieCache
from proxy.net.upstream import DialFailed

LARGE = 1850  # more than any SYN takes on a path of MTU 1500, so that some bytes come behind it
_BANNER_PATIENCE = 2.0
_REPAIR = 2.5  # the longest pause a single lost packet causes after a handshake: the peer repeats after 1 s
_LOCAL = frozenset({Reason.NO_PORTS, Reason.NO_DESCRIPTORS, Reason.NO_MEMORY, Reason.NOT_PERMITTED})


class Payload:
    """Bytes to try with: ``small`` fits every SYN, ``large`` fills one and goes on behind it; b"" for none."""

    def __init__(self, small: bytes = b"", large: bytes = b"") -> None:
        if len(small) > SMALL_SYN:  # given by the user, or a hello with a post-quantum key share
            small, large = b"", large or small
        self.small = small or large
        self.large = large if len(large) >= LARGE else b""

    @property
    def abilities(self) -> Abilities:
        """What there is to send."""
        return Abilities(bool(self.small), bool(self.large))

    def of(self, load: Load) -> bytes:
        """The bytes of this load."""
        return {Load.NONE: b"", Load.SMALL: self.small, Load.LARGE: self.large}[load]


@dataclass
class Report:
    """The trials of one endpoint in order, and what they come to."""

    endpoint: Endpoint
    verdict: Verdict
    trials: list[Trial] = field(default_factory=list[Trial])

    @property
    def rtt(self) -> float | None:
        """The path's round trip in seconds: the shortest seen."""
        return min((trial.rtt for trial in self.trials if trial.rtt), default=None)


def http_payload(host: str) -> Payload:
    """An HTTP request that only asks (RFC 9110 section 9.2.1), and the same with padding."""
    start = f"HEAD / HTTP/1.0\r\nHost: {host}\r\nUser-Agent: tfo-proxy-probe\r\n".encode()
    padding = b"X-Padding: " + b"." * (LARGE - len(start) - 15) + b"\r\n"
    return Payload(start + b"\r\n", start + padding + b"\r\n")


def tls_payload(host: str) -> Payload:
    """A ClientHello, as a browser would send it, and one made long by offering many protocols (RFC 7301)."""
    small = _client_hello(host, ["http/1.1"])
    names = ["http/1.1"]
    large = small
    while len(large) < LARGE:
        names += [f"x-padding-{len(names) + n:03}" for n in range(16)]
        large = _client_hello(host, names)
    return Payload(small, large)


def _client_hello(host: str, protocols: list[str]) -> bytes:
    context = ssl.create_default_context()
    context.set_alpn_protocols(protocols)
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(into, out, server_hostname=host).do_handshake()
    return out.read()


async def probe(
    endpoint: Endpoint, payload: Payload, timeout: float, heard: Callable[[Trial], None] = lambda _: None
) -> Report:
    """Dial until a verdict is reached; ``heard`` is told of each trial. Raises `DialFailed` for what we lack here.

    ``timeout`` is in seconds and for one dial; it should leave room for a SYN repeated after a second.
    """
    trials: list[Trial] = []
    with CookieCache() as cookies:
        while isinstance(step := decide(trials, payload.abilities), Step):
            trial = await _Prober(endpoint, payload, timeout, cookies).make(step, trials)
            if trial.failure is not None and trial.failure in _LOCAL:
                raise DialFailed(trial.failure)
            trials.append(trial)
            heard(trial)
    return Report(endpoint, step, trials)


@dataclass
class _Prober:
    endpoint: Endpoint
    payload: Payload
    timeout: float
    cookies: CookieCache

    async def make(self, step: Step, before: list[Trial]) -> Trial:
        data = self.payload.of(step.load)
        plan = PLAIN_PLAN if step.open is Open.PLAIN else Plan(step.open, len(data), None, probe=False, era=0)
        try:
            attempt = dial.begin(self.endpoint, data, plan, trio.current_time)
        except DialFailed as failed:
            return Trial(step, failed.reason)
        with attempt.sock:
            trial = await self._handshake(step, attempt)
            if trial.failure is not None or trial.evidence in {Evidence.OPTION_LOST, Evidence.SYN_DATA_LOST}:
                return trial
            patience = self._patience(step, before)
            if patience is None:
                return trial
            return await self._exchange(trial, attempt, data, patience)

    async def _handshake(self, step: Step, attempt: dial.Attempt) -> Trial:
        with trio.move_on_at(attempt.started + self.timeout):
            await trio.lowlevel.wait_writable(attempt.sock)
        now = trio.current_time()
        error = sockopt.pending_error(attempt.sock)
        info = sockopt.tcp_info(attempt.sock)
        if error or not info.established:
            reason = DialFailed.because(error).reason if error else Reason.CONNECT_TIMEOUT
            return Trial(step, reason, syn_bytes=attempt.syn_bytes, retransmits=info.retransmits)
        evidence = Evidence.PLAIN
        if attempt.unavailable:
            evidence = Evidence.UNAVAILABLE
        elif attempt.open is not Open.PLAIN:
            evidence = read_handshake(info, attempt.syn_bytes, now - attempt.started)
        return Trial(
            step,
            evidence=evidence,
            syn_bytes=attempt.syn_bytes,
            handshake=now - attempt.started,
            rtt=info.rtt or None,
            retransmits=info.retransmits,
            cookie=self._cookie(attempt.sock),
        )

    def _cookie(self, sock: socket.socket) -> bool | None:
        found = self.cookies.lookup(self.endpoint.host, sock.getsockname()[0])
        if self.cookies.problem:
            return None
        return any(cookie.has_cookie for cookie in found)

    def _patience(self, step: Step, before: list[Trial]) -> float | None:
        """Seconds to wait for an answer, from the start of the dial; None: not at all."""
        controls = [
            trial
            for trial in before
            if trial.step.open is Open.PLAIN and trial.reaction is not Reaction.UNASKED
        ]
        known = [trial.first_byte for trial in controls if trial.first_byte is not None]
        if step.load is Load.NONE and step.open is Open.PLAIN:
            return min(self.timeout, _BANNER_PATIENCE)
        if step.load is Load.NONE and (self.payload.small or not known):
            return None
        if known:
            return min(known) + min(self.timeout, _REPAIR)
        if any(trial.reaction is not Reaction.SILENCE for trial in controls):  # it closes, or resets
            return min(self.timeout, _REPAIR)
        return self.timeout if not controls else None  # silent before: its silence says nothing

    async def _exchange(self, trial: Trial, attempt: dial.Attempt, data: bytes, patience: float) -> Trial:
        rest = data[attempt.syn_bytes :]
        reaction, first_byte = Reaction.SILENCE, None
        with trio.move_on_at(attempt.started + patience):
            try:
                while rest:
                    await trio.lowlevel.wait_writable(attempt.sock)
                    rest = rest[attempt.sock.send(rest, socket.MSG_NOSIGNAL) :]
                await trio.lowlevel.wait_readable(attempt.sock)
                answer = attempt.sock.recv(65536)
            except OSError:
                reaction = Reaction.RESET
            else:
                reaction = Reaction.ANSWER if answer else Reaction.CLOSED
                first_byte = trio.current_time() - attempt.started if answer else None
        return trial._replace(reaction=reaction, first_byte=first_byte)
