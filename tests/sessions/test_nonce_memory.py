"""The table of nonces in a file and in memory: shared by processes, found again, and refused where it is not ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.core.outcomes import Reason
from proxy.core.tunnel import Rejected
from proxy.sessions import nonce_memory as module
from proxy.sessions.nonce_memory import SUFFIX, NoMemory, NonceMemory, open_memory

NOW = 1_800_000_000.0
SLOTS = 64
NONCE = bytes(range(16))
CLAIM = """
import os, sys
from proxy.core.tunnel import Rejected
from proxy.sessions import nonce_memory as module
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
    for again in range(2):
        memory = NonceMemory(open_memory(state, NOW - 10 + 100 * again, SLOTS))
        assert again or memory.claim(NONCE, NOW, 1, b"").fresh
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


def put_back_in_place(path: Path, kept: Path) -> None:
    path.write_bytes(kept.read_bytes())


def put_back_with_its_times(path: Path, kept: Path) -> None:
    shutil.copy2(kept, path)


def put_back_by_another_file(path: Path, kept: Path) -> None:
    shutil.copy2(kept, path.with_name("new"))
    path.with_name("new").replace(path)


@pytest.mark.parametrize("put_back", [put_back_in_place, put_back_with_its_times, put_back_by_another_file])
def test_a_file_that_was_put_back_refuses_what_was_sealed_before(
    tmp_path: Path, put_back: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, kept = str(tmp_path / "state.json"), tmp_path / "kept"
    path = Path(state + SUFFIX)
    monkeypatch.setattr(module, "_CLOSE", 0.2)
    NonceMemory(open_memory(state, NOW - 10, SLOTS)).close()
    shutil.copy2(path, kept)
    memory = NonceMemory(open_memory(state, NOW - 9, SLOTS))
    assert memory.claim(NONCE, NOW, 1, b"").fresh
    memory.close()
    time.sleep(0.5)
    put_back(path, kept)
    memory = NonceMemory(open_memory(state, NOW + 5, SLOTS))
    assert replayed(memory) is Reason.OLD_CLOCK
    assert memory.claim(NONCE, NOW + 6, 1, b"").fresh
    memory.close()


def test_a_file_that_is_in_use_is_shared_and_one_that_was_not_closed_is_not_believed(tmp_path: Path) -> None:
    state = str(tmp_path / "state.json")
    first = NonceMemory(open_memory(state, NOW - 10, SLOTS))
    second = NonceMemory(open_memory(state, NOW + 100, SLOTS))
    assert first.claim(NONCE, NOW, 1, b"").fresh
    assert replayed(second) is Reason.REPLAYED
    for memory in (first, second):  # as a crash does
        memory._view.release()
        memory._memory.close()
        os.close(memory._fd)
    third = NonceMemory(open_memory(state, NOW + 100, SLOTS))
    assert replayed(third) is Reason.OLD_CLOCK
    third.close()


def test_a_hard_link_is_refused(tmp_path: Path) -> None:
    state = str(tmp_path / "state.json")
    NonceMemory(open_memory(state, NOW, SLOTS)).close()
    (tmp_path / "other").hardlink_to(state + SUFFIX)
    with pytest.raises(NoMemory, match="a hard link"):
        open_memory(state, NOW, SLOTS)
