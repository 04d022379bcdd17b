"""A scenario is one line of `key=value` words; each value is a name from the tables of this file.

`way=socks5 cookie=held` is a scenario: what a line does not say has its default. A new kind of client, server or path
is a new entry of a table.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.core.hellos import TYPICAL, extension, message, record

Box: TypeAlias = tuple[str, dict[str, object]]

RTT = 0.04


# --- what the client says first


def hello(size: int) -> bytes:
    """A TLS ClientHello in one record of `size` bytes."""
    short = len(record(message(TYPICAL + extension(21))))
    return record(message(TYPICAL + extension(21, bytes(size - short))))


def noise(size: int) -> bytes:
    """Bytes of no protocol, always the same ones."""
    return b"\x00" + random.Random(size).randbytes(size - 1)


def get(extra: int = 0) -> bytes:
    padding = b"X-Padding: " + b"x" * extra + b"\r\n" if extra else b""
    return b"GET /things HTTP/1.1\r\nHost: example.test\r\n" + padding + b"\r\n"


def post(body: int) -> bytes:
    head = b"POST /things HTTP/1.1\r\nHost: example.test\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
    return head % body + b"b" * body


SAYS: Mapping[str, bytes] = {
    "get": get(),
    "get_1400": get(1330),
    "get_3000": get(2930),
    "get_20000": get(19930),
    "post": post(100),
    "post_3000": post(3000),
    "post_20000": post(20000),
    "tls_200": hello(200),
    "tls_517": hello(517),
    "tls_1400": hello(1400),
    "tls_3000": hello(3000),
    "ssh": b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
    "one_byte": b"x",
    "noise_100": noise(100),
    "noise_1400": noise(1400),
    "noise_3000": noise(3000),
    "noise_20000": noise(20000),
    "nothing": b"",
}
HTTP = frozenset(name for name in SAYS if name.startswith(("get", "post")))


# --- when and how it says so


@dataclass(frozen=True, slots=True)
class Client:
    """How a client speaks: after `pause` seconds (or after `banner` has come), in `pieces`, `gap` seconds apart.

    `again`: it asks a second time once it has the answer. `extra` goes out behind the request, after a gap. `eager`:
    it does not wait until it is told that it is connected.
    """

    pause: float = 0.0
    pieces: int = 1
    gap: float = 0.005
    banner: bool = False
    again: bool = False
    extra: bytes = b""
    eager: bool = False


CLIENTS: Mapping[str, Client] = {
    "at_once": Client(),
    "late_5ms": Client(pause=0.005),
    "late_60ms": Client(pause=0.06),
    "late_300ms": Client(pause=0.3),
    "pieces": Client(pieces=3),
    "drip": Client(pieces=12, gap=0.02),
    "waits": Client(banner=True),
    "again": Client(again=True),
    "eager": Client(eager=True),
    "more_later": Client(extra=b"{}\r\n", gap=0.01),
    "pipelines": Client(extra=get(), gap=0.0),
}


# --- what the server does


@dataclass(frozen=True, slots=True)
class Server:
    """An upstream: it says `banner` bytes, then for each request thinks for `think` seconds and says `answer` bytes.

    `first` is what it does as soon as it has the connection, `then` in place of an answer: "" (as said), "close" (FIN)
    or "reset". `aborts`: it takes a half-closed client for one that has gone. `listens`: False where nothing does.
    """

    answer: int = 100
    think: float = 0.0
    banner: int = 0
    banner_after: float = 0.0
    echoes: bool = False
    first: str = ""
    then: str = ""
    aborts: bool = False
    keeps_open: bool = False
    listens: bool = True


SERVERS: Mapping[str, Server] = {
    "answers": Server(),
    "large": Server(answer=64 << 10),
    "huge": Server(answer=1 << 20),
    "slow_50ms": Server(think=0.05),
    "slow_300ms": Server(think=0.3),
    "slow_1s": Server(think=1.0),
    "banner": Server(banner=60),
    "banner_50ms": Server(banner=60, banner_after=0.05),
    "banner_300ms": Server(banner=60, banner_after=0.3),
    "echoes": Server(echoes=True),
    "silent": Server(then="nothing"),
    "closes": Server(then="close"),
    "closes_at_once": Server(first="close"),
    "resets": Server(then="reset"),
    "resets_at_once": Server(first="reset"),
    "aborts": Server(think=0.03, aborts=True),
    "keeps_open": Server(keeps_open=True),
    "refuses": Server(listens=False),
}

# --- how it ends. "client_…": what the client does with the answer in hand; "…_early": while it waits for it

ENDS = (
    "client_fin", "client_rst", "client_half", "client_fin_early", "client_rst_early", "client_rst_soon",
    "server_fin", "server_rst", "both_fin",
)  # fmt: skip

EARLY: Mapping[str, float] = {  # seconds after it has spoken
    "client_fin_early": 1.5 * RTT,
    "client_rst_early": 1.5 * RTT,
    "client_rst_soon": 0.5 * RTT,
}

# --- how the destination is named: the addresses behind the name, in the order of preference


NAMES: Mapping[str, tuple[str, ...]] = {
    "v4": ("good4",),
    "v6": ("good6",),
    "name_v4": ("good4",),
    "name_v6": ("good6",),
    "name_both": ("good6", "good4"),
    "name_two": ("good4", "other4"),
    "name_dead6": ("dead6", "good4"),
    "name_2_dead6": ("dead6", "dead6", "good4"),
    "name_4_dead6": ("dead6",) * 4 + ("good4",),
    "name_8_dead6": ("dead6",) * 8 + ("good4",),
    "name_dead4": ("dead4", "good4"),
    "name_2_dead4": ("dead4", "dead4", "good4"),
    "name_refused6": ("refused6", "good4"),
    "name_4_refused6": ("refused6",) * 4 + ("good4",),
    "name_refused4": ("refused4", "good4"),
    "name_all_refused": ("refused6", "refused4"),
}

# --- the path to the server

PATHS: Mapping[str, tuple[Box, ...]] = {
    "clean": (),
    "stripped": (("strips-option-from-syn", {}),),
    "stripped_back": (("strips-option-from-syn-ack", {}),),
    "drops_syn_data": (("drops-syn-data", {}),),
    "drops_option": (("drops-option", {}),),
    "resets_syn_data": (("resets-syn-data", {}),),
    "rejects_syn_data": (("rejects-syn-data", {}),),
    "cuts": (("cuts-syn-data-off", {}),),
    "cuts_short": (("cuts-syn-data-short", {}),),
    "loses_syn": (("loses-first-syn", {}),),
    "loses_syn_ack": (("loses-first-syn-ack", {}),),
    "silent": (("silent-after-handshake", {}),),
    "silent_both": (("silent-after-handshake", {"both_ways": True}),),
    "silent_option": (("silent-after-handshake", {"option": True}),),
    "silent_to_server": (("drops-client-after-syn", {}),),
    "drops_answer": (("drops-server-data", {}),),
    "resets_answer": (("reset-at-first-answer", {}),),
    "resets_answer_option": (("reset-at-first-answer", {"option": True}),),
    "fin_for_answer": (("reset-at-first-answer", {"fin": True}),),
    "silent_to_server_3": (("silent-to-server", {"after": 3}),),
    "silent_to_client_3": (("silent-to-client", {"after": 3}),),
    "small_mtu": (("small-path-mtu", {}),),
    "later_drops": (("later", {"skip": 2}),),
    "later_silent": (("later", {"name": "silent-after-handshake", "skip": 2}),),
    "later_resets": (("later", {"name": "reset-at-first-answer", "skip": 2}),),
    "later_silent_to_server": (("later", {"name": "drops-client-after-syn", "skip": 2}),),
    "nat": (("nat-changes-source", {}),),
    "jitter": (("jitter", {}),),
    "loss": (("random-loss", {"rate": 0.05}),),
}
CHANCE = frozenset({"jitter", "loss"})  # where two runs over the same path need not take the same time

WAYS = (
    "forward",
    "headed_v1",
    "headed_v2",
    "tunnel",
    "via_socks",
    "via_http",
    "spare",
    "socks4",
    "socks4a",
    "socks5",
    "connect",
    "http",
)
FAR = frozenset({"tunnel", "via_socks", "via_http"})  # through a gateway on the far side
NAMED = frozenset({"socks4", "socks4a", "socks5", "connect", "http"})


@dataclass(frozen=True, slots=True)
class Scenario:
    """One combination. `fast_open`: whether the server has it; `cookie`: whether the kernel has its cookie already.

    `load`: one client after the other, or five at once.
    """

    way: str = field(default="forward", metadata={"of": WAYS, "draw": (4, 1, 1, 2, 1, 1, 1, 1, 1, 4, 4, 3)})
    client: str = field(default="at_once", metadata={"of": tuple(CLIENTS)})
    says: str = field(default="get", metadata={"of": tuple(SAYS)})
    server: str = field(default="answers", metadata={"of": tuple(SERVERS)})
    name: str = field(default="v4", metadata={"of": tuple(NAMES)})
    path: str = field(default="clean", metadata={"of": tuple(PATHS)})
    end: str = field(default="client_fin", metadata={"of": ENDS})
    fast_open: str = field(default="yes", metadata={"of": ("yes", "no"), "draw": (4, 1)})
    cookie: str = field(default="none", metadata={"of": ("none", "held"), "draw": (2, 1)})
    load: str = field(default="one", metadata={"of": ("one", "burst"), "draw": (6, 1)})

    def __str__(self) -> str:
        said = [
            f"{one.name}={getattr(self, one.name)}"
            for one in dataclasses.fields(self)
            if getattr(self, one.name) != one.default or one.name == "way"
        ]
        return " ".join(said)

    @property
    def addresses(self) -> tuple[str, ...]:
        return NAMES[self.name]

    @property
    def is_http(self) -> bool:
        """Whether the proxy reads the request and writes it anew."""
        return self.way == "http"

    def obstacle(self) -> str | None:  # noqa: C901, PLR0911, PLR0912  (one rule a line)
        """Why the parts do not go together; None if they do."""
        client, server = CLIENTS[self.client], SERVERS[self.server]
        if self.is_http and self.says not in HTTP:
            return "a plain HTTP proxy needs a request"
        if self.is_http and (server.banner or server.echoes or server.first == "close"):
            return "the server must speak HTTP"
        if (client.extra or client.again) and self.says not in HTTP:
            return "only HTTP requests have more behind them"
        if server.aborts and not (self.is_http or self.end in ("client_fin", "server_fin")):
            return "a client that half-closes is not served by a server that takes it for gone"
        if client.banner and not (server.banner or server.first):
            return "the client would wait for ever"
        if server.banner and self.says == "nothing" and client.pieces > 1:
            return "nothing has no pieces"
        if self.says == "nothing" and (
            client.pieces > 1 or not (server.banner or server.first or server.then)
        ):
            return "nobody would speak"
        if client.eager and self.way not in NAMED - {"http"}:
            return "only SOCKS and CONNECT clients are told that they are connected"
        if client.eager and len(SAYS[self.says]) > 3000:
            return "too much to say at once"
        if self.way == "socks4" and (self.name.startswith("name") or self.name == "v6"):
            return "SOCKS4 takes IPv4 numbers"
        if self.way == "socks4a" and not self.name.startswith("name"):
            return "SOCKS4a is for names"
        if self.way in FAR and self.name not in ("v4", "v6"):
            return "behind a gateway the addresses are numbers here"
        if self.load == "burst" and (self.end in EARLY or self.server == "huge" or client.extra):
            return "each of them would be looked at alone"
        if server.first and self.end != "client_fin":
            return "the server ends first"
        if not server.listens and (self.end != "client_fin" or self.way in FAR):
            return "there is nothing to end"
        if server.then in ("close", "reset") and self.end not in ("client_fin", "client_half"):
            return "the server ends"
        if server.then == "nothing" and self.end in ("server_fin", "server_rst", "both_fin"):
            return "the server says nothing"
        if server.keeps_open and self.end in ("server_fin", "server_rst", "both_fin"):
            return "the server keeps it open"
        if server.answer > 100 and self.end == "server_rst":
            return "a reset takes away what has not been read"
        if self.way in ("via_socks", "via_http") and self.end in ("client_half", "both_fin"):
            return "these gateways know no half-closed connections"
        if server.echoes and self.end == "server_rst":
            return "an echo has no end of its own"
        if self.end in EARLY and not (server.think >= 0.3 or server.then == "nothing"):
            return "the answer would be there before"
        if server.echoes and self.way.startswith("headed"):
            return "it would echo the PROXY header"
        if self.end in EARLY and (client.again or client.extra or client.banner):
            return "it would not come to that"
        if client.extra and not self.is_http and (server.answer > 100 or self.end != "client_fin"):
            return "what comes behind the request is looked at on the plain way only"
        if self.way == "http" and self.end in ("client_half", "both_fin") and client.extra:
            return "no more can be said"
        return None


def parse(line: str) -> Scenario:
    """A scenario from its line. Raises ValueError, which says what there is."""
    fields = {one.name: one for one in dataclasses.fields(Scenario)}
    said: dict[str, str] = {}
    for word in line.split():
        key, _, value = word.partition("=")
        if key not in fields:
            raise ValueError(f"no key {key!r}; there are {', '.join(fields)}")
        if value not in fields[key].metadata["of"]:
            raise ValueError(f"{key} cannot be {value!r}; there are {', '.join(fields[key].metadata['of'])}")
        said[key] = value
    scenario = Scenario(**said)
    if obstacle := scenario.obstacle():
        raise ValueError(f"{line}: {obstacle}")
    return scenario


# Half of what is drawn stands at its default, so that two or three things are unusual and not nine.
UNUSUAL = 0.4


def draw(seed: str) -> Scenario:
    """The scenario of this seed."""
    dice = random.Random(seed)
    while True:
        said: dict[str, str] = {}
        for one in dataclasses.fields(Scenario):
            values = one.metadata["of"]
            if "draw" in one.metadata:
                said[one.name] = dice.choices(values, one.metadata["draw"])[0]
            elif dice.random() < UNUSUAL:
                said[one.name] = dice.choice(values)
        scenario = Scenario(**said)
        if scenario.obstacle() is None:
            return scenario
