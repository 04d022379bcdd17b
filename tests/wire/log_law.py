"""``python -m tests.wire.log_law --sessions N --seed S``: every kind of path, each line held against its packets.

The functions of ``tfo-proxy explain`` judge each line: dials, evidence, SYN bytes, first byte, what was saved and lost.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as File

from bench.gauntlet import exchange
from bench.paths import GET, PATHS, Path, get
from proxy.explain import Connection, Explained, explain, read_capture, unclaimed
from proxy.lab.behaviours import answers, never_answers, resets, slow
from proxy.lab.capture import Capture
from proxy.lab.servers import Address, Conversation, Server
from proxy.lab.wan import Wan
from tests.wire.program import Line, Program, forward, until

RTT = 0.1
BATCH = 14  # paths at a time
LATE = (
    0.08  # seconds, less than a round trip: what a process that shares its core may take to notice a packet
)
CLOSED, NOWHERE = "closed", "nowhere"  # no server: a port that is closed, an address behind which nobody is


def _slow_banner(conversation: Conversation) -> None:
    conversation.pause(0.15)
    conversation.send(b"220 ready\r\n")
    conversation.receive_all()


KINDS: tuple[Path, ...] = (
    *(path for path in PATHS if path.halfway is None),
    Path("overtaken", "answers overtake the SYN-ACK", (("delays-syn-ack", {}),)),
    Path("overtaken-at-times", "every second one does", (("delays-syn-ack", {"every": 2}),)),
    Path("jitter", "packets overtake each other", (("jitter", {}),)),
    Path("loss-up", "5 % lost towards the server", (("random-loss", {"rate": 0.05, "direction": "C>S"}),), timeout=8.0),
    Path("slow-50", "the server takes 50 ms", behaviour=slow(0.05)),
    Path("slow-250", "the server takes 250 ms", behaviour=slow(0.25)),
    Path("says-nothing", "the server never answers", behaviour=never_answers(), timeout=0.6),
    Path("resets-late", "the server resets after the request", behaviour=resets(after=len(GET))),
    Path("resets-at-once", "the server resets at once", behaviour=resets(after=0)),
    Path("half-answer", "a part of an answer, then a RST", behaviour=resets(after=len(GET), reply=b"HTTP/1.1 200")),
    Path("closes", "answers and closes", behaviour=answers(request=len(GET), closes=True)),
    Path("large", "a request above one SYN", request=get(3000)),
    Path("off", "Fast Open switched off", cluster={"fast_open": "off"}),
    Path("waits", "the client speaks after 30 ms", pause=0.03),
    Path("empty", "the client says nothing, nor does the server", request=b"", behaviour=never_answers(), timeout=0.3),
    Path("slow-banner", "the server speaks first, after 150 ms", request=b"", behaviour=_slow_banner),
    Path(
        "slow-banner-nat", "the same, and no cookie fits", (("nat-changes-source", {}),), request=b"",
        behaviour=_slow_banner,
    ),
    Path(CLOSED, "nobody listens on the port"),
    Path(NOWHERE, "nobody has the address", timeout=1.5, cluster={"connect": {"timeout": "1s"}}),
)  # fmt: skip
LATER: tuple[Path, ...] = tuple(
    Path(name, f"{name} from halfway on", ((name, {}),))
    for name in (
        "drops-syn-data",
        "drops-option",
        "silent-after-handshake",
        "resets-syn-data",
        "delays-syn-ack",
    )
)


def batches(seed: int) -> Iterator[list[tuple[Path, bool]]]:
    """Paths that run at the same time, and whether what is in the way comes halfway."""
    kinds = list(KINDS)
    random.Random(seed).shuffle(kinds)
    for at in range(0, len(kinds), BATCH):
        yield [(path, False) for path in kinds[at : at + BATCH]]
    yield [(replace(path, name=f"{path.name}-later"), True) for path in LATER]


@dataclass(slots=True)
class Outcome:
    """What one batch has shown."""

    sessions: list[Explained]
    unclaimed: list[Connection]  # connections to its servers that are in no line
    status: Line  # the program's sums
    pcap: bytes
    lines: list[Line]


def run(wan: Wan, batch: Sequence[tuple[Path, bool]], sessions: int, seed: int) -> Outcome:
    """So many sessions over each path; every one of them beside its packets."""
    wan.clear()
    wan.forget()
    servers = {path.name: _server(wan, path) for path, _ in batch}
    addresses = {
        name: server.address if isinstance(server, Server) else server for name, server in servers.items()
    }
    boxes = [
        (
            name,
            {**params, **({"seed": seed} if name in {"random-loss", "jitter"} else {})},
            addresses[path.name][0],
            late,
        )
        for path, late in batch
        for name, params in path.through
    ]
    wan.install_all([box[:3] for box in boxes if not box[3]])
    dice = random.Random(f"{seed}{batch[0][0].name}")
    named = {
        path.name for path, _ in batch if not path.cluster and path.name != "empty" and dice.random() < 0.5
    }
    forwards = {
        path.name: _listener(addresses[path.name], path) for path, _ in batch if path.name not in named
    }
    document = {
        "listeners": {
            **{name: {**listener, "to": name} for name, (listener, _) in forwards.items()},
            **{name: {"bind": "127.0.0.1:0", "mode": "socks", "reply": "auto"} for name in named},
        },
        "clusters": {name: cluster for name, (_, cluster) in forwards.items()},
        "direct": {"deny": []},
        "log": {"format": "json"},
        "drain": "0s",
    }
    with Program(wan.client, document=document) as program:
        for part in range(2):
            number = sessions // 2 + (sessions % 2 if part else 0)
            threads = [
                threading.Thread(
                    target=_ask,
                    args=(wan, program.address(path.name), path, number),
                    kwargs={"to": addresses[path.name] if path.name in named else None},
                )
                for path, _ in batch
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if not part and any(box[3] for box in boxes):
                wan.install_all([box[:3] for box in boxes if box[3]])
        with contextlib.suppress(TimeoutError):  # the kernel may repeat what nobody takes for a long time
            until(lambda: len(program.events("session")) >= sessions * len(batch), timeout=5.0)
        program.status()
        program.signal(signal.SIGTERM)
        program.end()
        lines = program.events("session")
        status = program.events("status")[-1]
    with tempfile.TemporaryDirectory() as folder:
        file = File(folder, "packets.pcap")
        wan.capture().write_pcap(file, seen_from="client")
        pcap = file.read_bytes()
    wan.clear()
    for server in servers.values():
        if isinstance(server, Server):
            server.close()
    packets = read_capture(pcap)
    explained = explain(packets, lines, LATE)
    return Outcome(explained, unclaimed(packets, explained), status, pcap, lines)


def _listener(address: Address, path: Path) -> tuple[Line, Line]:
    listener, cluster = forward(address)
    return listener, {**cluster, **path.cluster}


def _server(wan: Wan, path: Path) -> Server | Address:
    if path.name == NOWHERE:
        return wan.unrouted_address(), 80
    if path.name == CLOSED:
        return wan.fresh_address(), 81
    return wan.serve(path.served_by(), fast_open=path.fast_open)


def _ask(wan: Wan, address: Address, path: Path, number: int, to: Address | None) -> None:
    with wan.client.entered():
        for _ in range(number):
            if to is not None:
                _ask_by_socks(address, path, to)
            elif path.request or path.name != "empty":
                exchange(address, path)
            else:
                with socket.create_connection(address):
                    time.sleep(path.timeout)
            time.sleep(0.02)


def _ask_by_socks(address: Address, path: Path, to: Address) -> None:
    """As `exchange`, by SOCKS 5 (RFC 1928)."""
    with contextlib.suppress(OSError), socket.socket() as sock:
        sock.settimeout(path.timeout)
        sock.connect(address)
        sock.sendall(b"\5\1\0")
        sock.recv(2)
        sock.sendall(b"\5\1\0\1" + socket.inet_aton(to[0]) + to[1].to_bytes(2, "big"))
        if sock.recv(10)[1:2] == b"\0":
            time.sleep(path.pause)
            sock.sendall(path.request)
            sock.recv(65536)


def round_trips(capture: Capture, server: Server) -> list[float]:
    """From every SYN that the server answered until its SYN-ACK was here, in seconds of the lab's clock."""
    answered = {item.packet.reverse_flow: item.left for item in capture.syn_acks(src=server.address)}
    syns = ((item, answered.get(item.packet.flow)) for item in capture.syns(dst=server.address))
    return [left - item.entered for item, left in syns if left is not None]


def report(sessions: Sequence[Explained]) -> list[str]:
    """What disagrees, in full."""
    return [session.text() for session in sessions if session.disagreements]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=1000, help="in all")
    parser.add_argument("--seed", type=int, default=7413)
    options = parser.parse_args()
    number = max(2, options.sessions // (len(KINDS) + len(LATER)))
    count, wrong = 0, Counter[str]()
    with Wan(rtt=RTT) as wan:
        for batch in batches(options.seed):
            left = number
            while left:
                for session in run(wan, batch, min(left, 50), options.seed).sessions:
                    count += 1
                    for text in session.disagreements:
                        wrong[f"{session.line.get('listener')}: {text.partition(':')[0]}"] += 1
                    if session.disagreements:
                        print(session.text(), flush=True)
                left -= min(left, 50)
    print(f"{count} sessions, seed {options.seed}: {sum(wrong.values())} disagreements {dict(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
