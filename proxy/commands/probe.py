"""``tfo-proxy probe``: is there Fast Open on this path?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proxy.core.address import Authority, BadAddress, Endpoint, parse_target
from proxy.core.evidence import Evidence
from proxy.core.fastopen import Open
from proxy.core.outcomes import Reason
from proxy.core.verdict import Load, Reaction, Trial, Verdict, saved

if TYPE_CHECKING:
    from proxy.core.address import Target
    from proxy.probe import Payload, Report

NOT_REACHED = 3
_AT_ONCE = 8  # servers; their dials must not stand in each other's way
_WORKING = frozenset({Verdict.WORKS, Verdict.PATH_MTU, Verdict.COOKIE_ONLY})
_UNREACHED = frozenset({Verdict.REFUSED, Verdict.UNREACHABLE, Verdict.TIMEOUT})
_HTTP_PORTS, _TLS_PORTS = frozenset({80, 8000, 8008, 8080}), frozenset({443, 8443})

_MEANING = {
    Verdict.COOKIE_ONLY: "the server gives cookies. Whether it takes data in a SYN was not tried, because no byte may"
    " be sent to this port unasked; allow some with --send.",
    Verdict.NOT_SHOWN: "the kernel holds a cookie for that address already, which another port there may have given."
    " Whether this server does Fast Open does not show without a byte, and none may be sent to this port unasked;"
    " allow some with --send.",
    Verdict.PATH_MTU: "works with small SYNs only: a full-sized one is lost on this path. tfo-proxy learns the size by"
    " itself; `syn_data: 1200` in the cluster says it beforehand.",
    Verdict.NO_COOKIE: "no cookie ever comes: the server does no Fast Open, or something on the way takes the option"
    " out. Harmless, and useless.",
    Verdict.IGNORED: "cookies come, but data in the SYN is never taken: servers behind one address with different keys,"
    " an address translator that changes our address, or a middlebox that takes the data out. No time is lost.",
    Verdict.DROPS_SYN_DATA: "a middlebox drops SYNs that carry data; each would cost a second. tfo-proxy notices and"
    " dials plainly there.",
    Verdict.DROPS_OPTION: "a middlebox drops SYNs that carry the Fast Open option; each would cost a second. tfo-proxy"
    " notices and dials plainly there.",
    Verdict.RESETS: "fast opens are reset while ordinary connections get through. tfo-proxy notices and dials plainly.",
    Verdict.REJECTS: "fast opens are answered with ICMP “unreachable” while ordinary connections get through."
    " tfo-proxy notices and dials plainly.",
    Verdict.SILENT: "after a Fast Open handshake nothing gets through any more, while ordinary connections work."
    " tfo-proxy notices and dials plainly.",
    Verdict.UNCLEAR: "too much gets lost, with and without Fast Open, to tell. Try again, or from nearer.",
    Verdict.UNAVAILABLE: "this kernel, sandbox or network namespace does no Fast Open for clients now; `tfo-proxy"
    " doctor` says why.",
    Verdict.REFUSED: "nobody listens there.",
    Verdict.UNREACHABLE: "there is no way to that address.",
    Verdict.TIMEOUT: "no answer to an ordinary connection either.",
}


@click.command(
    epilog="Exit codes: 0 it works (`works`, `path-mtu`, `cookie-only`), 1 it does not, or it does not show"
    " (`not-shown`), 2 usage, 3 the server was not reached at all. Of several servers the worst one counts: 1 before 3"
    " before 0."
)
@click.argument("targets", metavar="HOST:PORT...", nargs=-1, required=True)
@click.option(
    "--send",
    type=click.Choice(["auto", "get", "tls", "none"]),
    default="auto",
    show_default=True,
    help="What may be sent: an HTTP HEAD request, a TLS ClientHello, or nothing. auto goes by the port.",
)
@click.option("--send-hex", metavar="HEX", help="These bytes; they must be safe to be received twice.")
@click.option(
    "--timeout", type=click.FloatRange(0.1, 120), default=5.0, show_default=True, help="Seconds for one dial."
)
@click.option("-4", "family", flag_value="4", help="IPv4 only.")
@click.option("-6", "family", flag_value="6", help="IPv6 only.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def command(  # noqa: PLR0913, PLR0917  # one parameter an option
    ctx: click.Context,
    targets: tuple[str, ...],
    send: str,
    send_hex: str | None,
    timeout: float,
    family: str | None,
    as_json: bool,
) -> None:
    """Dial HOST:PORT a handful of times and say what this path does with TCP Fast Open.

    Nothing is sent that must not be received twice; no privilege is needed. Of several servers, each is one line.
    """
    asked = [_target(target) for target in dict.fromkeys(targets)]
    wishes = [(target, _payload(target, send, send_hex)) for target in asked]
    reports = _probe(wishes, timeout, family)
    if len(asked) == 1 and isinstance(reports[0], str):
        raise _NotReached(reports[0])
    click.echo(_told(asked, reports, as_json=as_json))
    codes = {_code(report) for report in reports}
    ctx.exit(1 if 1 in codes else max(codes))


def _target(text: str) -> Target:
    try:
        asked = parse_target(text)
    except BadAddress as error:
        raise click.UsageError(str(error)) from None
    if isinstance(asked, Endpoint) and asked.is_unix:
        raise click.UsageError("a unix socket has no SYN to carry anything")
    return asked


def _code(report: Report | str) -> int:
    if isinstance(report, str) or report.verdict in _UNREACHED:
        return NOT_REACHED
    return 0 if report.verdict in _WORKING else 1


class _NotReached(click.ClickException):
    exit_code = NOT_REACHED


def _payload(target: Target, send: str, send_hex: str | None) -> Payload:
    from proxy.probe import Payload, http_payload, tls_payload

    if send_hex is not None:
        try:
            given = bytes.fromhex(send_hex)
        except ValueError:
            raise click.UsageError("--send-hex takes pairs of hexadecimal digits") from None
        return Payload(given, given)
    if send == "auto":
        send = "get" if target.port in _HTTP_PORTS else "tls" if target.port in _TLS_PORTS else "none"
    if send == "get":
        return http_payload(str(target))
    return tls_payload(target.host) if send == "tls" else Payload()


def _probe(wishes: list[tuple[Target, Payload]], timeout: float, family: str | None) -> list[Report | str]:
    """The report of each, a few at a time; where there is none, why."""
    import trio

    from proxy.commands.progress import Progress
    from proxy.net.resolve import NoSuchHost, Resolver
    from proxy.net.upstream import DialFailed
    from proxy.probe import probe

    reports: list[Report | str] = [""] * len(wishes)
    resolver, turns = Resolver(), trio.CapacityLimiter(_AT_ONCE)
    done: list[int] = []

    async def one(number: int, target: Target, payload: Payload) -> None:
        async with turns:
            try:
                found = [target] if isinstance(target, Endpoint) else await resolver.lookup(target)
                fitting = [one for one in found if family is None or one.is_ipv6 == (family == "6")]
                if not fitting:
                    raise NoSuchHost(f"{target.host} has no IPv{family} address")
                reports[number] = await probe(fitting[0], payload, timeout)
            except (NoSuchHost, DialFailed) as failure:
                reports[number] = str(failure)
        done.append(number)

    async def tell() -> None:
        with Progress() as progress:
            while True:
                progress.tell(f"probing: {len(done)} of {len(wishes)}")
                await trio.sleep(0.1)

    async def run() -> None:
        async with trio.open_nursery() as beside:
            beside.start_soon(tell)
            async with trio.open_nursery() as nursery:
                for number, wish in enumerate(wishes):
                    nursery.start_soon(one, number, *wish)
            beside.cancel_scope.cancel()

    trio.run(run)
    return reports


def _told(asked: list[Target], reports: list[Report | str], *, as_json: bool) -> str:
    """One server in full, several a line each; as JSON an object, or a list of them."""
    import msgspec

    pairs = list(zip(asked, reports, strict=True))
    if as_json:
        whole = [_as_data(*pair) for pair in pairs]
        return msgspec.json.format(msgspec.json.encode(whole if len(whole) > 1 else whole[0])).decode()
    if len(pairs) == 1 and not isinstance(reports[0], str):
        return "\n".join(_as_text(asked[0], reports[0]))
    width = max(len(str(target)) for target in asked)
    return "\n".join(f"{target!s:<{width}}  {_summary(report)}" for target, report in pairs)


def _summary(report: Report | str) -> str:
    if isinstance(report, str):
        return f"{'-':>9}  {'not reached':<15} {report}"
    rtt, gain = report.rtt, saved(report.trials)
    words = f"saves {gain * 1e3:.0f} ms" if gain and report.verdict in _WORKING else ""
    return f"{f'{rtt * 1e3:.1f} ms' if rtt else '-':>9}  {report.verdict:<15} {words}".rstrip()


def _as_text(asked: Target, report: Report) -> list[str]:
    rtt = report.rtt
    name = f"{asked} ({report.endpoint.host})" if isinstance(asked, Authority) else str(asked)
    lines = [name + (f", round trip {rtt * 1e3:.1f} ms" if rtt else "")]
    lines += [f"  {number:2}  {_line(trial, rtt)}" for number, trial in enumerate(report.trials, 1)]
    return [*lines, f"{report.verdict}: {explain(report)}"]


def explain(report: Report) -> str:
    """The verdict in a sentence."""
    if report.verdict is not Verdict.WORKS:
        return _MEANING[report.verdict]
    first = _acked_on(report.trials)
    how = (
        f"data acknowledged in the SYN-ACK on the {_ordinal(first)} try"
        if first
        else "the server speaks in its SYN-ACK's wake"
    )
    gain, rtt = saved(report.trials), report.rtt
    if gain is None or not rtt:
        return f"TCP Fast Open works here: {how}; it saves a round trip per connection."
    return f"TCP Fast Open works here: {how}; saves {gain / rtt:.1f} round trips = {gain * 1e3:.0f} ms per connection."


def _acked_on(trials: list[Trial]) -> int:
    """Which fast open had its data acknowledged first; 0: none."""
    opens = [trial for trial in trials if trial.step.open is not Open.PLAIN]
    return next(
        (number for number, trial in enumerate(opens, 1) if trial.evidence is Evidence.SYN_DATA_ACKED), 0
    )


def _ordinal(number: int) -> str:
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number, 'th') }"


_SAID = {
    Evidence.SYN_DATA_ACKED: "data acknowledged",
    Evidence.EMPTY_OPEN: "cookie presented",
    Evidence.COOKIE_REQUESTED: "cookie asked for",
    Evidence.SYN_DATA_NOT_ACKED: "data not acknowledged, repeated",
    Evidence.SYN_DATA_LOST: "SYN with data lost",
    Evidence.OPTION_LOST: "SYN with the option lost",
    Evidence.SYN_ACK_LOST: "answer lost or late",
    Evidence.PATH_MTU: "SYN too large, ICMP said so",
    Evidence.UNAVAILABLE: "no Fast Open in this kernel",
}
_FAILED = {
    Reason.REFUSED: "reset",
    Reason.UNREACHABLE: "unreachable",
    Reason.NET_UNREACHABLE: "unreachable",
    Reason.CONNECT_TIMEOUT: "no answer",
}


def _line(trial: Trial, rtt: float | None) -> str:
    name = {Open.PLAIN: "plain", Open.EMPTY: "fast open, empty", Open.DATA: "fast open"}[trial.step.open]
    if trial.step.load is not Load.NONE:
        name += f", {trial.step.load} request" + (
            f", {trial.syn_bytes} bytes in the SYN" if trial.syn_bytes else ""
        )
    if trial.failure is not None:
        return f"{name:<48} {_FAILED.get(trial.failure, trial.failure)}"
    said = [f"handshake {_time(trial.handshake, rtt)}"]
    if trial.first_byte is not None:
        said.append(f"first byte {_time(trial.first_byte, rtt)}")
    elif trial.reaction not in {Reaction.UNASKED, Reaction.ANSWER}:
        said.append(
            {Reaction.CLOSED: "closed", Reaction.RESET: "then reset"}.get(trial.reaction, "then silence")
        )
    if trial.evidence is not None and trial.evidence in _SAID:
        said.append(_SAID[trial.evidence] + (", got one" if _got_one(trial) else ""))
    return f"{name:<48} {', '.join(said)}"


def _got_one(trial: Trial) -> bool:
    return trial.evidence is Evidence.COOKIE_REQUESTED and trial.cookie is True


def _time(seconds: float | None, rtt: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds * 1e3:.1f} ms" + (f" ({seconds / rtt:.1f} RTT)" if rtt else "")


def _as_data(asked: Target, report: Report | str) -> dict[str, object]:
    if isinstance(report, str):
        return {"target": str(asked), "verdict": "not-reached", "explanation": report}
    return {
        "target": str(asked),
        "address": report.endpoint.host,
        "port": report.endpoint.port,
        "verdict": report.verdict,
        "explanation": explain(report),
        "rtt": report.rtt,
        "saved": saved(report.trials),
        "acked_on_try": _acked_on(report.trials) or None,
        "syn_bytes": max(
            (t.syn_bytes for t in report.trials if t.evidence is Evidence.SYN_DATA_ACKED), default=0
        ),
        "trials": [
            {**trial.step._asdict(), **trial._asdict(), "step": number}
            for number, trial in enumerate(report.trials, 1)
        ],
    }
