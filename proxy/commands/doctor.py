"""``tfo-proxy doctor``: what is to be mended on this machine, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proxy.commands.group import FAILED, OK, load_config

if TYPE_CHECKING:
    from proxy.diagnosis import Finding


@click.command(
    epilog="Exit codes: 0 fine (warnings and notes are), 1 something to mend, 78 bad configuration."
)
@click.argument("config", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def command(ctx: click.Context, config: str | None, as_json: bool) -> None:
    """Look at kernel, settings, limits and, with CONFIG, at what it needs; say the exact line that mends each."""
    from proxy.diagnosis import Level, diagnose

    findings = diagnose(load_config(config).snapshot if config is not None else None)
    to_mend = any(finding.level is Level.MEND for finding in findings)
    click.echo(_as_json(findings, healthy=not to_mend) if as_json else "\n".join(_as_text(findings)))
    ctx.exit(FAILED if to_mend else OK)


def _as_text(findings: list[Finding]) -> list[str]:
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{finding.level:<8} {finding.what}")
        if finding.why:
            lines.append(f"{'':8} {finding.why}")
        if finding.mend:
            lines.append(f"{'':8} → {finding.mend}")
    count = sum(finding.level == "mend" for finding in findings)
    return [*lines, f"{count} to mend" if count else "fine"]


def _as_json(findings: list[Finding], *, healthy: bool) -> str:
    import msgspec

    whole = {"healthy": healthy, "findings": [finding._asdict() for finding in findings]}
    return msgspec.json.format(msgspec.json.encode(whole)).decode()
