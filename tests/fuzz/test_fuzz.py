"""Every parser, fed with what grows out of a corpus: it answers or refuses, and the same however its input is cut.

Half a second for each; `make fuzz` gives them a minute. ``FUZZ_KEEP=1`` keeps what led to something new in the corpus.
What a target fails on should be kept there, too, as ``found-…``: then it is tried first for ever.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from tests.fuzz.mutation import Found, Fuzzer, kept
from tests.fuzz.targets import FUZZED

CORPUS = Path(__file__).parent / "corpus"
SECONDS = float(os.environ.get("FUZZ_SECONDS", "0.5"))
KEEP = os.environ.get("FUZZ_KEEP") == "1"
SEED = 7413 if os.environ.get("CI") == "true" else time.time_ns()


@pytest.mark.parametrize("name", FUZZED)
def test_it_answers_or_refuses(name: str) -> None:
    one = FUZZED[name]
    folder = CORPUS / name
    print(f"seed {SEED}")
    fuzzer = Fuzzer(one.target, [*one.seeds, *kept(folder)], one.words, SEED)
    fuzzer.run(SECONDS)
    assert fuzzer.runs > 20
    print(f"{fuzzer.runs} inputs, {len(fuzzer.shapes)} shapes")
    if KEEP:
        folder.mkdir(exist_ok=True)
        for data in fuzzer.new[:40]:
            (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def test_the_fuzzer_finds_what_is_there() -> None:
    """A mistake three steps away."""

    def fails(data: bytes) -> str:
        steps = [data.startswith(b"a"), data[1:2] == b"\xff", len(data) > 40]
        assert not all(steps)
        return str(steps)

    fuzzer = Fuzzer(fails, [b"abc"], (), 1)
    with pytest.raises(Found, match="AssertionError"):
        fuzzer.run(30.0)


def test_a_seed_makes_a_run_the_same_again() -> None:
    seen: list[list[bytes]] = []
    for _ in range(2):
        inputs: list[bytes] = []

        def target(data: bytes, inputs: list[bytes] = inputs) -> str:
            inputs.append(data)
            return str(len(data) % 7)

        fuzzer = Fuzzer(target, [b"abc", b"d"], (b"word",), 5)
        for _ in range(200):
            fuzzer._try(fuzzer._changed(fuzzer._random.choice(fuzzer.corpus)))
        seen.append(inputs)
    assert seen[0] == seen[1]
