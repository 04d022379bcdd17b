"""A small fuzzer: inputs that lead to something new are kept, and changed again.

What is new is told by the target itself: it returns the shape of what it made of an input, such as the kind of the
answer or the words of the refusal with the numbers left out. A seed makes a run the same again.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

Target = Callable[[bytes], str]
LONGEST = 4096
_NUMBERS = (0, 1, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)
MOST_SHAPES = 200  # what somebody counts among the words of a message would have no end
_WORD = re.compile(r"(?<![^\s(;,:])[a-z]{2,12}(?![^\s);,:.])")


class Fuzzed(NamedTuple):
    """A target, what its fuzzing starts from, and words that mean something to it."""

    target: Target
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()


class Found(AssertionError):
    """``data``: an input that a target fails on."""

    def __init__(self, message: str, data: bytes) -> None:
        super().__init__(message)
        self.data = data


def without_data(text: str) -> str:
    """The last words of a message, without what was quoted in it."""
    return " ".join(_WORD.findall(text)[-4:])


class Fuzzer:
    """Feeds ``target``, which raises for what must not be, with what grows out of ``corpus``."""

    def __init__(self, target: Target, corpus: Iterable[bytes], words: Sequence[bytes], seed: int) -> None:
        self._target = target
        self._random = random.Random(seed)
        self._words = words
        self.shapes: set[str] = set()
        self.corpus: list[bytes] = []
        self.new: list[bytes] = []  # what was not in the corpus before, and leads elsewhere
        self.runs = 0
        self.spent = 0.0  # seconds of the processor's time, in `run`
        for data in corpus:
            self._try(data)
            if data not in self.corpus:
                self.corpus.append(data)
        self.new.clear()

    def run(self, seconds: float, until: float = math.inf) -> None:
        """Go on for so long, of the processor's time, at most until then (`time.monotonic`); raises `Found`."""
        began = time.process_time()
        while (spent := time.process_time() - began) < seconds and time.monotonic() < until:
            for _ in range(20):
                self._try(self._changed(self._random.choice(self.corpus)))
        self.spent += spent

    def _try(self, data: bytes) -> None:
        self.runs += 1
        try:
            shape = self._target(data)
        except Exception as error:
            raise Found(f"{type(error).__name__}: {error}\nfor {data!r}", data) from error
        if shape not in self.shapes and len(self.shapes) < MOST_SHAPES:
            self.shapes.add(shape)
            self.corpus.append(data)
            self.new.append(data)

    def _changed(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self._random.choice((1, 1, 1, 2, 3, 8))):
            self._change(changed)
        return bytes(changed[:LONGEST])

    def _change(self, data: bytearray) -> None:
        pick = self._random
        at = pick.randrange(len(data) + 1)
        end = min(len(data), at + pick.choice((1, 1, 2, 4, 16)))
        match pick.randrange(9):
            case 0 if at < len(data):
                data[at] ^= 1 << pick.randrange(8)
            case 1 if at < len(data):
                data[at] = pick.randrange(256)
            case 2:
                del data[at:end]
            case 3:
                del data[at:]
            case 4:
                data[at:at] = pick.randbytes(pick.choice((1, 2, 8)))
            case 5:
                data[at:at] = data[at:end] * pick.choice((1, 2, 30))
            case 6 if self._words:
                data[at : pick.choice((at, end))] = pick.choice(self._words)
            case 7:
                size = pick.choice((1, 2, 4))
                number = pick.choice(_NUMBERS) & ((1 << 8 * size) - 1)
                data[at : at + size] = number.to_bytes(size, pick.choice(("big", "little")))
            case _:
                other = pick.choice(self.corpus)
                start = pick.randrange(len(other) + 1)
                data[at:at] = other[start : start + pick.choice((4, 40, 400))]


def kept(folder: Path) -> list[bytes]:
    """The corpus in ``folder``, in an order that stays."""
    return [path.read_bytes() for path in sorted(folder.glob("*"))] if folder.is_dir() else []
