"""The table of nonces in a file and in memory: shared by processes, found again, and refused where it is not ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.core.outcomes import Reason
from proxy.core.tunnel import Rejected
from proxy.sessions.nonce_memory import SUFFIX, NoMemory, NonceMemory, open_memory

NOW = 1_800_000_000.0
SLOTS = 64
NONCE = bytes(range(16))
CLAIM = """
import os, sys
from proxy.core.tunnel import Rejected
from proxy.sessions.nonce_memory import NonceMemory
memory, fresh = NonceMemory(int(sys.argv[1])), 0
for number in range(200):
    try:
        fresh += memory.claim(number.to_bytes(16, "big"), 1_800_000_000.0 + number * 10, 1, b"").fresh
    except Rejected:
        pass
print(fresh)
"""


def replayed(memory: NonceMemory, sealed: float = NOW) -> Reason:
    with pytest.raises(Rejected) as error:
        memory.claim(NONCE, sealed, 1, b"")
    return error.value.reason


def test_a_file_is_found_again(tmp_path: Path) -> None:
    state = str(tmp_path / "state.json")
    for time in range(2):
        memory = NonceMemory(open_memory(state, NOW - 10 + 100 * time, SLOTS))
        assert time or memory.claim(NONCE, NOW, 1, b"").fresh
        assert replayed(memory) is Reason.REPLAYED
        memory.close()
    assert Path(state + SUFFIX).stat().st_mode & 0o777 == 0o600


def test_memory_ends_with_the_program() -> None:
    memory = NonceMemory(open_memory(None, NOW - 10, SLOTS))
    assert memory.claim(NONCE, NOW, 1, b"").fresh
    assert replayed(memory) is Reason.REPLAYED
    memory.close()
    memory = NonceMemory(open_memory(None, NOW + 1, SLOTS))
    assert replayed(memory) is Reason.OLD_CLOCK
    memory.close()


def test_a_file_of_another_kind_is_made_anew(tmp_path: Path) -> None:
    state = str(tmp_path / "state.json")
    Path(state + SUFFIX).write_bytes(b"something else")
    Path(state + SUFFIX).chmod(0o600)
    memory = NonceMemory(open_memory(state, NOW, SLOTS))
    assert replayed(memory, NOW - 1) is Reason.OLD_CLOCK
    assert memory.claim(NONCE, NOW, 1, b"").fresh
    memory.close()


def test_what_is_not_ours_is_refused(tmp_path: Path) -> None:
    state = str(tmp_path / "state.json")
    Path(state + SUFFIX).write_bytes(b"")
    Path(state + SUFFIX).chmod(0o666)
    with pytest.raises(NoMemory, match="not ours"):
        open_memory(state, NOW, SLOTS)
    with pytest.raises(NoMemory):
        open_memory(str(tmp_path / "nowhere" / "state.json"), NOW, SLOTS)
    Path(state + SUFFIX).unlink()
    Path(state + SUFFIX).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NoMemory):
        open_memory(state, NOW, SLOTS)


def test_of_several_processes_one_gets_each() -> None:
    fd = open_memory(None, NOW - 10)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(fd)], pass_fds=[fd], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    assert sum(int(child.communicate(timeout=30)[0]) for child in children) == 200
    os.close(fd)
