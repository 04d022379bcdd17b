"""What the demo can show, by name: every middlebox of the lab, a path without any, a server without Fast Open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from proxy.lab.middleboxes import described

CLEAN, NO_FAST_OPEN = "clean", "no-fast-open"
BANNER = b"220 mail.example.com ESMTP\r\n"
FOR_TESTS = frozenset({"drops", "later"})
POST = b"POST /pay HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\n100"
_HEAD, _TAIL = b"GET / HTTP/1.1\r\nHost: example.com\r\n", b"\r\n"


def get(size: int = 0) -> bytes:
    """A request for a page, padded to a size by a cookie such as browsers carry around."""
    padding = size - len(_HEAD) - len(_TAIL) - len(b"Cookie: \r\n")
    cookie = b"Cookie: " + b"c" * padding + b"\r\n" if padding > 0 else b""
    return _HEAD + cookie + _TAIL


# What a path needs to be met at all: more bytes than it cuts off, or than fit into its packets.
REQUESTS = {
    "cuts-syn-data-short": get(300),
    "small-path-mtu": get(2000),
    "path-mtu-black-hole": get(1345),
    "drops-client-after-syn": get(3000),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing to show. An empty ``request``: the server speaks first, and says ``reply``."""

    name: str
    title: str
    through: tuple[tuple[str, Mapping[str, object]], ...] = ()
    request: bytes = field(default_factory=get)
    reply: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"
    fast_open: bool = True
    tunnel: bool = False

    @property
    def server_first(self) -> bool:
        return not self.request

    @property
    def port(self) -> int:
        """Where the server listens."""
        return 25 if self.server_first else 80

    def turned_round(self) -> Scene:
        """The same path to a server that speaks first."""
        return replace(self, title=f"{self.title}; the server speaks first", request=b"", reply=BANNER)


def tunnelled(scene: Scene) -> Scene:
    """The same path with a tfo-proxy at each end, to a server that knows nothing of it and a request that no SYN of
    ours would carry there.
    """
    way = "a server that speaks first" if scene.server_first else "a POST"
    where = "" if scene.name == CLEAN else f"; {scene.title[:1].lower()}{scene.title[1:]}"
    title = f"A tunnel of two tfo-proxies: {way}, a server without Fast Open{where}"
    request = b"" if scene.server_first else POST
    return replace(scene, title=title, request=request, fast_open=False, tunnel=True)


def scenes() -> dict[str, Scene]:
    """All of them, in the order in which they are listed."""
    found = {
        CLEAN: Scene(CLEAN, "A clear path to a server that does Fast Open"),
        NO_FAST_OPEN: Scene(NO_FAST_OPEN, "A clear path to a server without Fast Open", fast_open=False),
    }
    for name, what in described().items():
        if name not in FOR_TESTS:
            title = re.sub(r" *\[[^\]]*\]", "", what).rstrip(".")
            found[name] = Scene(name, _titled(title), ((name, {}),), REQUESTS.get(name, get()))
    return found


def scene(name: str) -> Scene:
    """One by its name. Raises ValueError, which says what there is."""
    known = scenes()
    if name not in known:
        raise ValueError(f"no path is called {name!r}; there are {', '.join(known)}")
    return known[name]


def _titled(what: str) -> str:
    """What a middlebox does, as a sentence; some are described by what they are."""
    named = what.startswith(("A ", "NAT"))
    return what if named else f"A middlebox {what[:1].lower()}{what[1:]}"
