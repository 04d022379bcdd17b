"""Whatever strangers can fill has a bound in bytes: docs/security.md names each, and here each is filled beyond it."""

from __future__ import annotations

import gc
import itertools
import re
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.core import address, networks, nonces, request
from proxy.core.address import Authority, Endpoint
from proxy.core.duplicates import Duplicates
from proxy.core.evidence import Evidence
from proxy.core.familiar import Familiar
from proxy.core.families import Families
from proxy.core.fastopen import State
from proxy.core.ledger import Ledger
from proxy.core.lockout import Lockout
from proxy.core.openings import LIMIT, opening_of
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.reader import Reading
from proxy.core.record import SessionRecord
from proxy.core.snapshot import Mode
from proxy.core.standings import Standings
from proxy.net import own, sockopt
from proxy.net.answers import MOST_ADDRESSES, Addresses
from proxy.net.names import Names
from proxy.net.resolve import Resolver
from proxy.service.memory import Memory
from proxy.service.worker import RECENT
from proxy.telemetry import sessions as lines_of_sessions
from proxy.telemetry.lines import Lines
from tests.admin.house import a_record
from tests.serving import Recorder

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
ROW = re.compile(
    r"^\| (?P<name>[^|]+) \| (?P<number>[0-9.]+) (?P<unit>KiB|MiB)\b[^|]*\|[^|]+\|$", re.MULTILINE
)
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20}
TIMES = 2  # what is filled with, of what fits


def rows() -> dict[str, float]:
    """The table's bounds in bytes, by name."""
    section = PAGE.read_text().partition("## Memory")[2].partition("\n## ")[0]
    return {
        found["name"].strip(): float(found["number"]) * UNITS[found["unit"]]
        for found in ROW.finditer(section)
    }


def host(number: int) -> str:
    """A name as long as names may be."""
    label = f"{number:08x}".rjust(63, "a")
    return ".".join([label, "b" * 63, "c" * 63, "d" * 61])


def endpoint(number: int) -> Endpoint:
    return Endpoint(f"2001:db8:ffff:ffff:{number >> 16:x}:{number & 0xFFFF:x}:ffff:ffff", 1 + number % 65535)


def parsed_requests() -> object:
    familiar = Familiar()
    for number in range(TIMES * 1024):
        head = f"CONNECT {host(number)}:443 HTTP/1.1\r\nHost: a\r\nX-Padding: "
        said = head.encode().ljust(508, b"x") + b"\r\n\r\n"
        parser = opening_of(Mode.HTTP, login=False)
        parsed = Reading(parser, LIMIT).feed(said)
        assert parsed is not None
        familiar.learn(parser, said, parsed.value)
    return familiar


def standings() -> object:
    found = Standings()
    for number in range(TIMES * 10_000):
        standing = found.get(endpoint(number))
        standing.rtt = 0.1 + number
        if number < 9_000:
            standing.state, standing.sentence = State.QUARANTINED, 60.0 + number
    return found


def accounts() -> object:
    ledger = Ledger()
    reasons = itertools.cycle(Reason)
    for number in range(10_000 + 500):
        for _ in range(6):
            ledger.add(
                a_record(
                    listener="a", cluster="direct", endpoint=endpoint(number), reason=next(reasons),
                    evidence=list(Evidence)[number % len(Evidence)], ended_by=EndedBy.UPSTREAM, during=Stage.RELAY,
                )
            )  # fmt: skip
    return ledger


def patiences() -> object:
    memory = Memory(None, Recorder())
    for number in range(TIMES * 4096):
        patience = memory.patience("a", f"direct:{number}", {number})
        for octave in range(65):  # what `wait` keeps, without the work
            patience._answers[1.0, octave, number % 2 == 0] = octave + 0.5 + number
    return memory


def families() -> object:
    found = Families()
    for number in range(TIMES * 1000):
        found.overtaken(host(number), endpoint(number), 0.0)
        found.failed(endpoint(number), 0.0)
    return found


def duplicates() -> object:
    found = Duplicates()
    for number in range(TIMES * 16_384):
        header = b"\x60" + bytes(39) + number.to_bytes(12, "big") + b"\xf0" + bytes(47)
        found.seen(header, 0.0)
    return found


def wrong_passwords() -> object:
    lockout = Lockout()
    for number in range(4096 + 200):
        client = number.to_bytes(8, "big")
        for name in range(9):
            for guess in range(5):
                lockout.failed(client, f"{name}", 0.0, bytes([number % 256, guess]) * 8)
        lockout.succeeded(client, "right", number.to_bytes(16, "big"))
    return lockout


def last_sessions() -> object:
    recent: deque[SessionRecord] = deque(maxlen=RECENT)
    for number in range(TIMES * RECENT):
        recent.append(
            a_record(
                listener="a", cluster="direct", endpoint=endpoint(number), user=f"{number}".rjust(255, "u"),
                authority=Authority(host(number), 1), detail="x" * 1000 + str(number),
            )
        )  # fmt: skip
    return recent


def log_lines() -> object:
    class Full:
        """Nothing is taken."""

        def fileno(self) -> int:
            raise OSError

        def write(self, _: bytes) -> int:
            raise BlockingIOError

        def flush(self) -> None:
            """There is nothing."""

    lines = Lines(Full())  # type: ignore[arg-type]  # what is asked of it
    for number in range(100_000):
        lines.msg(b"%06d" % number + b"x" * 94)
    assert lines.lost
    return lines


def addresses() -> object:
    for number in range(4096 + 200):
        text = endpoint(number).host
        address.is_numeric(text)
        address.is_numeric(f"name-{number}.example.com")
        networks.meanings(f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}")
        networks.numeric(text)
        sockopt._family(text)
        request.target_of(text, 1)
        own.is_own(f"2001:db8::{number:x}")
        lines_of_sessions._place(Authority(host(number), 1))
    return None


async def names() -> object:
    class Many(Names):
        async def addresses(self, name: str, on_part: Callable[[Addresses], None]) -> Addresses:
            hosts = tuple(f"2001:db8:{name[55:59]}:{name[59:63]}::{n:x}" for n in range(MOST_ADDRESSES))
            return Addresses(hosts, 60.0)

    resolver = Resolver(names=Many(()))
    for number in range(4096 + 200):
        await resolver.lookup(Authority(host(number), 1))
    return resolver


def openings_of_tunnels() -> object:
    return bytearray(nonces.Nonces.size())


FILLS: dict[str, Callable[[], object]] = {
    "parsed requests": parsed_requests,
    "what is believed of endpoints": standings,
    "accounts by endpoint": accounts,
    "who speaks first": patiences,
    "slow families and failed addresses": families,
    "SYNs with data": duplicates,
    "wrong and right passwords": wrong_passwords,
    "last sessions": last_sessions,
    "log lines that wait": log_lines,
    "addresses and names seen last": addresses,
    "openings of tunnels": openings_of_tunnels,
}


def test_every_row_is_filled() -> None:
    assert rows().keys() == {*FILLS, "answers of name servers"}


@pytest.fixture
def traced() -> Iterator[None]:
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("name", FILLS)
@pytest.mark.usefixtures("traced")
def test_what_strangers_fill_has_a_bound(name: str) -> None:
    before = tracemalloc.get_traced_memory()[0]
    kept = FILLS[name]()
    held = tracemalloc.get_traced_memory()[0] - before
    del kept
    assert held <= rows()[name]


@pytest.mark.usefixtures("traced")
async def test_what_name_servers_say_has_a_bound() -> None:
    before = tracemalloc.get_traced_memory()[0]
    kept = await names()
    held = tracemalloc.get_traced_memory()[0] - before
    del kept
    assert held <= rows()["answers of name servers"]
