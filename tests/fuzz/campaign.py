"""One target for a while; what it fails on stays in the corpus, so that it is tried first for ever."""

from __future__ import annotations

import hashlib
import math
import os
import time
from pathlib import Path

from tests.fuzz.mutation import Found, Fuzzer, kept
from tests.fuzz.targets import FUZZED

CORPUS = Path(__file__).parent / "corpus"
SEED = 7413 if os.environ.get("CI") == "true" else time.time_ns()


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def fuzz(name: str, seconds: float, *, until: float = math.inf, keep: bool = False) -> Fuzzer:
    """Raises `Found`, which says in which file the input is; ``keep``: also what led to something new."""
    one, folder = FUZZED[name], CORPUS / name
    try:
        fuzzer = Fuzzer(one.target, [*one.seeds, *kept(folder)], one.words, SEED)
        fuzzer.run(seconds, until)
    except Found as found:
        folder.mkdir(exist_ok=True)
        path = folder / f"found-{name_of(found.data)}"
        path.write_bytes(found.data)
        raise Found(f"{found}\nseed {SEED}; the input is in {path}", found.data) from found.__cause__
    if keep:
        folder.mkdir(exist_ok=True)
        for data in fuzzer.new[:40]:
            (folder / name_of(data)).write_bytes(data)
    return fuzzer
