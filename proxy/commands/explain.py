"""``tfo-proxy explain``: sessions of a log beside their packets."""

from __future__ import annotations

from pathlib import Path

import click

from proxy.commands.group import FAILED, OK


@click.command(
    epilog="Exit codes: 0 log and packets agree, 1 they disagree, or no session of the log is in the capture."
)
@click.argument("capture", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("log", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--id", "wanted", metavar="ID", help="Show this session only.")
@click.option(
    "--within",
    default=0.02,
    show_default=True,
    metavar="SECONDS",
    help="Let times differ by so much: a busy host's do.",
)
@click.option("--disagreeing", is_flag=True, help="Show only sessions whose line and packets disagree.")
@click.pass_context
def command(
    ctx: click.Context, capture: Path, log: str, wanted: str | None, within: float, *, disagreeing: bool
) -> None:
    """Show each session of LOG with its packets from CAPTURE, and each field that the packets say otherwise.

    CAPTURE is a pcap or pcapng file made on the proxy's host: tcpdump -i any -w CAPTURE tcp or icmp or icmp6.
    LOG has the JSON lines of the proxy; - is standard input.
    """
    from proxy.explain import BadCapture, explain, read_capture, session_lines

    try:
        packets = read_capture(capture.read_bytes())
    except BadCapture as bad:
        raise click.BadParameter(f"{capture}: {bad}", param_hint="CAPTURE") from None
    with click.open_file(log, errors="replace") as file:
        lines = [line for line in session_lines(file) if wanted is None or line.get("id") == wanted]
    if not lines:
        of = f" with the id {wanted}" if wanted else ""
        raise click.BadParameter(
            f"{log}: no session line{of}; it needs log: {{format: json}}", param_hint="LOG"
        )
    sessions = explain(packets, lines, within)
    for session in sessions:
        if session.disagreements or not disagreeing:
            click.echo(session.text())
    wrong = sum(bool(session.disagreements) for session in sessions)
    click.echo(f"{len(sessions)} of {len(lines)} sessions are in the capture, {wrong} disagree with it")
    ctx.exit(FAILED if wrong or not sessions else OK)
