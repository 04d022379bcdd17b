from __future__ import annotations

from proxy.demo.scenes import scene, tunnelled
from proxy.demo.story import Arrow, Lane, Look, Seen, told
from proxy.lab.capture import Capture, Captured, What
from proxy.lab.loopback import Heard
from proxy.lab.packets import ACK, FAST_OPEN, FIN, RST, SYN, Packet
from proxy.lab.rules import Direction

HERE, THERE = ("10.77.1.1", 40000), ("10.77.2.1", 80)
REQUEST = 37


def packet(flags: int, size: int = 0, *, up: bool = True, seq: int = 100, ack: int = 0, port: int = 40000, cookie: bytes | None = None) -> Packet:  # fmt: skip  # noqa: E501
    (source, sport), (target, dport) = ((HERE[0], port), THERE) if up else (THERE, (HERE[0], port))
    options = ((FAST_OPEN, cookie),) if cookie is not None else ()
    return Packet(
        b"", 40 + size, 4, source, target, 6, 20, sport, dport, seq, ack, flags, 0, options, b"x" * size, size
    )


def crossed(
    at: float, what: Packet, *, up: bool = True, fate: What = "forwarded", to: Packet | None = None
) -> Captured:
    left = None if fate == "dropped" else at + 0.05
    delivered = None if fate == "dropped" else to or what
    return Captured(Direction.UP if up else Direction.DOWN, at, left, fate, "box", what, delivered)


def line(*packets: Captured) -> Seen:
    return Seen(Capture(packets))


def labels(arrows: tuple[Arrow, ...]) -> list[str]:
    return [arrow.label for arrow in arrows]


def test_a_plain_connection() -> None:
    run = told(
        scene("clean"),
        line(
            crossed(5.0, packet(SYN)),
            crossed(5.05, packet(SYN | ACK, up=False, ack=101), up=False),
            crossed(5.1, packet(ACK)),
            crossed(5.1, packet(ACK, REQUEST, seq=101)),
            crossed(5.15, packet(ACK, 44, up=False), up=False),
            crossed(5.2, packet(FIN | ACK)),
        ),
    )
    assert run.lanes == (Lane.CLIENT, Lane.SERVER)
    assert labels(run.shown()) == ["SYN", "SYN-ACK", "request, 37 B", "response, 44 B"]
    assert labels(run.shown(everything=True)) == [
        "SYN",
        "SYN-ACK",
        "ACK",
        "request, 37 B",
        "response, 44 B",
        "FIN",
    ]
    assert run.first_byte is not None
    assert abs(run.first_byte - 0.2) < 1e-9
    assert run.shown()[0].sent == 0.0


def test_a_fast_open_through_the_proxy() -> None:
    client = Packet(b"", 40, 4, "127.0.0.1", "127.0.0.1", 6, 20, 50000, 8080, 1, 0, SYN)
    back = Packet(b"", 84, 4, "127.0.0.1", "127.0.0.1", 6, 20, 8080, 50000, 1, 0, ACK, 0, (), b"y" * 44, 44)
    run = told(
        scene("clean"),
        Seen(
            line(
                crossed(5.001, packet(SYN, REQUEST, cookie=b"12345678")),
                crossed(5.051, packet(SYN | ACK, up=False, ack=101 + REQUEST), up=False),
                crossed(5.052, packet(ACK, 44, up=False), up=False),
            ).line,
            [Heard(5.0, client), Heard(5.103, back)],
        ),
        8080,
        {"evidence": "syn_data_acked"},
    )
    assert run.lanes == (Lane.CLIENT, Lane.PROXY, Lane.SERVER)
    assert labels(run.arrows) == [
        "SYN", "SYN + cookie + request", "SYN-ACK, took 37 B", "response, 44 B", "response, 44 B",
    ]  # fmt: skip
    assert [arrow.look for arrow in run.arrows][1] is Look.EARLY
    assert run.first_byte is not None
    assert abs(run.first_byte - 0.103) < 1e-6  # at the client, not at the proxy
    assert not run.rescued


def test_what_a_middlebox_did() -> None:
    run = told(
        scene("drops-syn-data"),
        line(
            crossed(1.0, packet(SYN, REQUEST, cookie=b"12345678"), fate="dropped"),
            crossed(1.0, packet(RST | ACK, up=False), up=False, fate="injected"),
            crossed(1.1, packet(SYN, cookie=b"", port=40001), fate="rewritten", to=packet(SYN, port=40001)),
            crossed(1.2, packet(SYN, port=40001, cookie=b"")),
        ),
        8080,
    )
    dropped, reset, rewritten, again = run.arrows
    assert (dropped.arrived, dropped.look) == (None, Look.BAD)
    assert (reset.source, reset.target, reset.label) == (Lane.MIDDLEBOX, Lane.PROXY, "RST")
    assert abs(reset.sent - 0.025) < 1e-9
    assert (rewritten.label, rewritten.changed) == ("SYN + cookie? (second dial)", "SYN")
    assert again.label == "SYN + cookie?, again (second dial)"
    assert run.lanes == (Lane.PROXY, Lane.SERVER)


def test_icmp_and_a_server_that_speaks_first() -> None:
    icmp = Packet(b"", 56, 4, "10.77.9.9", HERE[0], 1, 20, icmp=(3, 4))
    run = told(
        scene("clean").turned_round(),
        line(
            crossed(1.0, packet(SYN)),
            crossed(1.02, icmp, up=False, fate="injected"),
            crossed(1.05, packet(SYN | ACK, up=False), up=False),
            crossed(1.06, packet(ACK, 28, up=False), up=False),
        ),
    )
    assert labels(run.arrows) == ["SYN", "ICMP: too big", "SYN-ACK", "banner, 28 B"]


def test_connections_that_went_alike_have_the_same_gist() -> None:
    one = told(scene("clean"), line(crossed(1.0, packet(SYN))))
    later = told(scene("clean"), line(crossed(2.5, packet(SYN, port=40007))))
    other = told(scene("clean"), line(crossed(1.0, packet(SYN), fate="dropped")))
    assert one.gist == later.gist != other.gist
    assert told(scene("clean"), line()).first_byte is None


def test_a_tunnel_has_four_lifelines() -> None:
    client = Packet(b"", 40, 4, "127.0.0.1", "127.0.0.1", 6, 20, 50000, 8080, 1, 0, SYN)
    to_server = Packet(b"", 40, 4, THERE[0], THERE[0], 6, 20, 51000, 80, 1, 0, SYN)
    run = told(
        tunnelled(scene("clean")),
        Seen(
            line(
                crossed(5.001, packet(SYN, 180, cookie=b"12345678")),
                crossed(5.06, packet(ACK, 1, up=False), up=False),
            ).line,
            [Heard(5.0, client)],
            [Heard(5.055, to_server)],
            80,
        ),
        8080,
    )
    assert run.lanes == (Lane.CLIENT, Lane.PROXY, Lane.SERVER, Lane.ORIGIN)
    assert [(arrow.source, arrow.target, arrow.label) for arrow in run.arrows] == [
        (Lane.CLIENT, Lane.PROXY, "SYN"),
        (Lane.PROXY, Lane.SERVER, "SYN + cookie + request"),
        (Lane.SERVER, Lane.ORIGIN, "SYN"),
        (Lane.SERVER, Lane.PROXY, "signal, 1 B"),
    ]
    assert run.first_byte is None
