"""A search for inputs that a parser takes long over, and the measure that judges them.

An input is a `Shape`: a head, a unit that is repeated as often as fits, a tail. Shapes are made of a parser's words,
tried at two small sizes, and the slowest and fastest growing of them are varied and tried again; what is left is
measured up to the parser's limit. Time is the thread's own, the least of several runs.
"""

from __future__ import annotations

import gc
import random
import signal
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from time import thread_time
from typing import NamedTuple, TypeAlias

MOST_GROWTH = 2.5  # times the time for twice the bytes
LONGEST = 0.05  # seconds for one input of the largest size
NEGLIGIBLE = 0.001  # seconds; what takes less at its limit may grow as it likes
SMALL, TWICE = 1024, 2048
_MOST_WAITED = 0.2
_ENOUGH = 1  # problems

Parse: TypeAlias = Callable[[bytes], object]


class Shape(NamedTuple):
    """An input of any size."""

    head: bytes
    unit: bytes
    tail: bytes

    def of(self, size: int) -> bytes:
        """Of at most ``size`` bytes, as far as head and tail allow."""
        count = max(0, (size - len(self.head) - len(self.tail)) // len(self.unit))
        return (self.head + self.unit * count + self.tail)[:size]


Make: TypeAlias = Callable[[int], bytes]
"""An input of about so many bytes."""


class Judged(NamedTuple):
    """A parser, and what its inputs are made of. ``parse`` raises nothing for a bad one."""

    parse: Parse
    most: int  # bytes
    words: tuple[bytes, ...] = ()
    samples: tuple[bytes, ...] = ()  # good inputs, whose beginnings are heads
    made: tuple[Make, ...] = ()  # inputs with lengths and checksums that are right
    on_the_loop: bool = True  # one input is one piece of work between two looks at the event loop
    effort: int = 600  # shapes


class _TooLong(Exception):
    """It does not end in time."""


def seconds(parse: Parse, data: bytes, runs: int = 1) -> float:
    """How long ``parse`` takes, at least; what takes more than `_MOST_WAITED` of processor time is ended then."""
    least = _MOST_WAITED
    old = signal.signal(signal.SIGVTALRM, _end)
    try:
        for _ in range(runs):
            signal.setitimer(signal.ITIMER_VIRTUAL, _MOST_WAITED)
            began = thread_time()
            parse(data)
            least = min(least, thread_time() - began)
            if least > 4 * LONGEST:
                break
    except _TooLong:
        return least
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, old)
    return least


def _end(*_: object) -> None:
    raise _TooLong


def problems(name: str, judged: Judged) -> list[str]:
    """What the search finds against a parser; a finding counts only if it is found again."""
    gc.disable()
    try:
        makes = [*_slowest(judged), *judged.made]
        found = list(islice((problem for make in makes if (problem := _against(judged, make))), _ENOUGH))
    finally:
        gc.enable()
    return [f"{name}: {problem}" for problem in found]


def _slowest(judged: Judged) -> Iterator[Make]:
    """Shapes worth a closer look."""
    rng = random.Random(judged.most)
    size, twice = min(SMALL, judged.most // 2), min(TWICE, judged.most)
    tried: dict[Shape, tuple[float, float]] = {}
    hopeless = 0

    def attempt(shape: Shape) -> None:
        nonlocal hopeless
        if shape not in tried and hopeless < _ENOUGH:
            first = seconds(judged.parse, shape.of(size))
            second = seconds(judged.parse, shape.of(twice)) if first < LONGEST else first
            tried[shape] = second, second / max(first, 5e-6)
            hopeless += second > LONGEST

    for shape in _shapes(judged, rng):
        attempt(shape)
    for _ in range(2):
        for shape in _best(tried):
            for _ in range(min(8, judged.effort // 10)):
                attempt(_varied(shape, judged, rng))
    for shape in _best(tried):
        yield shape.of


def _best(tried: dict[Shape, tuple[float, float]]) -> list[Shape]:
    slow = sorted(tried, key=lambda shape: -tried[shape][0])[:4]
    growing = sorted((one for one in tried if tried[one][0] > 2e-5), key=lambda shape: -tried[shape][1])[:4]
    return list(dict.fromkeys([*slow, *growing]))


def _shapes(judged: Judged, rng: random.Random) -> Iterator[Shape]:
    """Single words behind each beginning of a good input, then several at random."""
    heads = list(dict.fromkeys([b"", *(sample[:at] for sample in judged.samples for at in _cuts(sample))]))
    words = [word for word in judged.words if word]
    tails = [b"", b"\x01", b"\r\n\r\n", *(sample[-1:] for sample in judged.samples)]
    if judged.effort >= 100:
        words += [bytes([byte]) for byte in b'\0\1\t\n\r ",-.0:a\x7f\xff']
        yield from (Shape(head, word, b"\x01") for head in heads for word in words)
    yield from (Shape(head, word, b"") for head in (b"", *judged.samples) for word in words)
    for _ in range(judged.effort):
        unit = b"".join(rng.choice(words) for _ in range(rng.choice((1, 1, 2, 2, 3)))) if words else b"a"
        yield Shape(rng.choice(heads), unit, rng.choice(tails))


def _cuts(sample: bytes) -> Iterable[int]:
    return range(1, len(sample) + 1, max(1, len(sample) // 40))


def _varied(shape: Shape, judged: Judged, rng: random.Random) -> Shape:
    word = rng.choice(judged.words or (b"a",))
    cut = rng.randint(0, len(shape.unit))
    unit = rng.choice((shape.unit[:cut] + word + shape.unit[cut:], shape.unit[cut:], shape.unit + word, word))
    tail = rng.choice((shape.tail, word, b"\x01", shape.unit[:cut] + b"\0"))
    head = rng.choice((shape.head, shape.head + word, shape.head + shape.unit * 3))
    return Shape(head, unit[:64] or b"\0", tail)


def _against(judged: Judged, make: Make) -> str:
    """Grow one input to the limit; nothing: it keeps the law.

    A problem below the limit has to be one at the next size, too: of an input whose beginning is skipped, time grows
    faster than size at first.
    """
    size, before = min(TWICE, judged.most), ""
    while True:  # from below, so that what grows without measure is not run at its full size
        problem = _at(judged, make, size) and _at(judged, make, size)
        if size == judged.most or (problem and before):
            return problem
        size, before = min(size * 4, judged.most), problem


def _at(judged: Judged, make: Make, size: int) -> str:
    """What is wrong at this size: too long, or grown by too much at two doublings in a row."""
    data = make(size)
    took = seconds(judged.parse, data)
    if took > NEGLIGIBLE:
        took = min(took, seconds(judged.parse, data, 2))
    if judged.on_the_loop and took > LONGEST:
        return f"{took * 1000:.0f} ms for {len(data)} bytes, {_told(data)}"
    if took <= NEGLIGIBLE:
        return ""
    steps = [(len(data), took)]
    for smaller in (make(size // 2), make(size // 4)):
        length, before = steps[-1]
        now = seconds(judged.parse, smaller, 3)
        if before <= MOST_GROWTH * now * length / max(1, 2 * len(smaller)):
            return ""
        steps.append((len(smaller), now))
    growth = ", ".join(f"{one * 1000:.1f} ms for {length} bytes" for length, one in reversed(steps))
    return f"{growth}, {_told(data)}"


def _told(data: bytes) -> str:
    return repr(data[:60] + b" ... " + data[-20:] if len(data) > 80 else data)
