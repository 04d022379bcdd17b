"""``tfo-proxy status``: what a running proxy says of itself, once, in plain text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from proxy.commands import remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from proxy.admin import views
    from proxy.commands.remote import Remote

_SHOWN = 20  # endpoints


@click.command()
@remote.options
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def command(config: str | None, admin: str | None, token_file: str | None, as_json: bool) -> None:
    """Say what a running proxy does and what it saves.

    The proxy must have an `admin` in its configuration; `tfo-proxy top` shows the same, live.
    """
    with remote.find(config, admin, token_file) as source:
        click.echo(_whole(source) if as_json else "\n".join(_text(source)))


def _whole(source: Remote) -> str:
    parts: dict[str, object] = {"status": source.view("/api/v1/status", dict[str, object])}
    for name in ("listeners", "clusters", "endpoints"):
        parts |= source.view(f"/api/v1/{name}", dict[str, object])
    parts["endpoints_total"] = parts.pop("total", 0)
    return json.dumps(parts, indent=2)


def _text(source: Remote) -> Iterator[str]:
    from proxy.admin import views

    status = source.view("/api/v1/status", views.Status)
    listeners = source.view("/api/v1/listeners", views.Listeners)
    endpoints = source.view(f"/api/v1/endpoints?limit={_SHOWN}", views.Endpoints)
    yield from _head(status)
    yield ""
    yield "Listeners"
    yield from _table(_listener(one) for one in listeners.listeners)
    if endpoints.endpoints:
        yield ""
        yield f"Endpoints, {endpoints.total} known" + (
            ", those used last:" if endpoints.total > _SHOWN else ""
        )
        yield from _table(_endpoint(one) for one in endpoints.endpoints)
    if status.last_reload is not None and not status.last_reload.ok:
        yield ""
        yield "The configuration was refused:"
        yield from (f"  {line}" for text in status.last_reload.mistakes for line in text.splitlines())
    for note in status.notes:
        yield ""
        yield note


def _head(status: views.Status) -> Iterator[str]:
    total = status.total
    workers = f", {len(status.workers)} workers" if len(status.workers) > 1 else ""
    yield f"tfo-proxy {status.version}, {status.state} for {lasting(status.uptime)}, pid {status.pid}{workers}"
    yield (
        f"saved     {total.round_trips_saved:,} round trips, {seconds(total.seconds_saved)}"
        f" (of late {status.saved_per_minute:,.1f} a minute); lost {seconds(total.seconds_lost)}"
    )
    yield (
        f"sessions  {total.sessions:,} ended, {total.open:,} open, {total.failed:,} never reached a server;"
        f" {size(total.up_bytes)} up, {size(total.down_bytes)} down"
    )
    if status.warm_up is not None:
        yield f"warm-up   {warm_up(status.warm_up)}"
    known = ", ".join(f"{number:,} {name}" for name, number in total.evidence.items())
    if known:
        yield f"dials     {known}"
    if total.hedges or total.redials:
        yield f"          {total.hedges:,} hedged, {total.redials:,} dialled again"


def warm_up(one: views.WarmUp) -> str:
    """How far it has come, in words."""
    found = {
        "cookies fetched": one.fetched, "there already": one.held, "without Fast Open": one.no_fast_open,
        "lost on the way": one.dropped, "unreachable": one.unreachable,
    }  # fmt: skip
    parts = [f"{number:,} {words}" for words, number in found.items() if number]
    done = f"{one.endpoints - one.waiting:,} of " if one.waiting else ""
    how = f"{done}{one.endpoints:,} endpoint{'' if one.endpoints == 1 else 's'}"
    return f"{', '.join([how, *parts])}; {'took' if one.is_over else 'for'} {seconds(one.seconds)}"


def _listener(one: views.Listener) -> Sequence[str]:
    where = ", ".join(place.bind for place in one.places) or "not listening"
    deaf = "" if not one.places or any(place.fast_open for place in one.places) else "no SYN data"
    refused = sum(one.refused.values())
    return (
        one.name,
        one.mode,
        where,
        f"{one.tally.open:,} open",
        f"{one.tally.sessions:,} ended",
        f"{refused:,} refused" if refused else "",
        deaf,
    )


def _endpoint(one: views.Endpoint) -> Sequence[str]:
    rtt = "" if one.rtt is None else f"{one.rtt * 1e3:.1f} ms"
    cookie = "cookie" if one.cookie.known else "no cookie"
    fast, plain = one.tally.first_byte_fast.median, one.tally.first_byte_plain.median
    times = [f"{name} {value * 1e3:.0f} ms" for name, value in (("fast", fast), ("plain", plain)) if value]
    return (
        one.endpoint,
        one.standing,
        rtt,
        cookie,
        f"{one.tally.sessions:,} session{'' if one.tally.sessions == 1 else 's'}",
        ", ".join(times),
        one.why,
    )


def _table(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as they must be; the last as it is."""
    lines = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True) if width)
        yield ("  " + "  ".join(cells)).rstrip()


def seconds(value: float) -> str:
    """A duration, short."""
    if value < 60:
        return f"{value:.1f} s"
    return lasting(value)


def lasting(value: float) -> str:
    """A long duration: two units."""
    left = int(value)
    for unit, length, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if left >= length:
            return f"{left // length} {unit} {left % length // part} {smaller}"
    return f"{left} s"


def size(value: float) -> str:
    """A number of bytes, short."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"
