"""Played scenes made by hand, for those who only write them down."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.demo.play import Played
from proxy.demo.scenes import Scene, scene
from proxy.demo.story import Arrow, Lane, Look, Run

RTT = 0.1
THREE = (Lane.CLIENT, Lane.PROXY, Lane.SERVER)
SAVED: dict[str, object] = {
    "evidence": "syn_data_acked",
    "standing_before": "confirmed",
    "standing_after": "confirmed",
}
LOST: dict[str, object] = {
    "evidence": "syn_data_lost", "hedged": True, "standing_before": "data_doubted", "standing_after": "quarantined",
}  # fmt: skip
PLAIN: dict[str, object] = {
    "evidence": "plain", "standing_before": "quarantined", "standing_after": "quarantined",
}  # fmt: skip


def up(sent: float, label: str, look: Look = Look.ORDINARY, source: Lane = Lane.PROXY) -> Arrow:
    return Arrow(source, Lane.SERVER, sent, sent + RTT / 2, label, look)


def down(sent: float, label: str, look: Look = Look.ORDINARY, target: Lane = Lane.PROXY) -> Arrow:
    return Arrow(Lane.SERVER, target, sent, sent + RTT / 2, label, look)


def local(at: float, label: str, *, out: bool = True, look: Look = Look.ORDINARY) -> Arrow:
    ends = (Lane.CLIENT, Lane.PROXY) if out else (Lane.PROXY, Lane.CLIENT)
    return Arrow(*ends, at, at, label, look)


def plain() -> Run:
    ends = Lane.CLIENT
    arrows = (
        up(0.0, "SYN", source=ends), down(0.05, "SYN-ACK", target=ends), up(0.1, "request, 37 B", source=ends),
        down(0.15, "response, 44 B", Look.ANSWER, target=ends),
    )  # fmt: skip
    return Run((Lane.CLIENT, Lane.SERVER), arrows, 0.2, {})


def fast() -> Run:
    arrows = (
        local(0.0, "SYN"), local(0.0001, "SYN-ACK", out=False), local(0.0002, "request, 37 B"),
        up(0.001, "SYN + cookie + request", Look.EARLY), down(0.051, "SYN-ACK, took 37 B"),
        down(0.052, "response, 44 B", Look.ANSWER), local(0.103, "response, 44 B", out=False, look=Look.ANSWER),
        Arrow(Lane.PROXY, Lane.SERVER, 0.104, 0.154, "ACK", Look.ORDINARY, bare=True),
    )  # fmt: skip
    return Run(THREE, arrows, 0.103, dict(SAVED))


def lossy() -> Run:
    lost = Arrow(Lane.PROXY, Lane.SERVER, 0.001, None, "SYN + cookie + request", Look.BAD)
    arrows = (
        local(0.0, "SYN"), lost, up(0.15, "SYN (second dial)"), down(0.2, "SYN-ACK (second dial)"),
        down(0.3, "response, 44 B (second dial)", Look.ANSWER),
        local(0.351, "response, 44 B", out=False, look=Look.ANSWER),
    )  # fmt: skip
    return Run(THREE, arrows, 0.351, dict(LOST))


def careful() -> Run:
    arrows = (local(0.0, "SYN"), up(0.001, "SYN"), down(0.152, "response, 44 B", Look.ANSWER))
    return Run(THREE, arrows, 0.202, dict(PLAIN))


def warm_up() -> Run:
    arrows = (up(0.0, "SYN + cookie?"), down(0.05, "SYN-ACK + cookie"))
    return Run((Lane.PROXY, Lane.SERVER), arrows, None, {})


def played(
    through: Sequence[Run], what: Scene | None = None, trusting: tuple[float | None, ...] = ()
) -> Played:
    return Played(what or scene("clean"), RTT, plain(), warm_up(), tuple(through), trusting)
