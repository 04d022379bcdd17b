"""The load generator: `load.c`, compiled when needed and spoken to line by line."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

from bench.process import pinned

SOURCE = Path(__file__).with_name("load.c")
OUT = Path(__file__).with_name("out")


class LoadError(Exception):
    """The load generator cannot be built or has died."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one run did. `cpu` and `seconds` are the generator's own; latencies in microseconds."""

    ops: int = 0
    bytes: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    errors: int = 0
    stalled: int = 0
    open: int = 0
    p50_us: float = 0.0
    p99_us: float = 0.0
    p999_us: float = 0.0
    ports: tuple[int, ...] = ()
    error: str = field(default="")


def build(source: Path = SOURCE) -> Path:
    """The compiled generator, made anew where the source is younger."""
    binary = OUT / source.stem
    if binary.exists() and binary.stat().st_mtime >= source.stat().st_mtime:
        return binary
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise LoadError(
            f"no C compiler (cc, gcc or clang): the load generator, bench/{source.name}, needs one"
        )
    OUT.mkdir(exist_ok=True)
    made = subprocess.run(
        [compiler, "-O2", "-Wall", "-o", str(binary), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise LoadError(f"{compiler} cannot compile bench/{source.name}:\n{made.stderr}")
    return binary


class Load:
    """A running generator, its server listening on 127.0.0.1:`port`."""

    def __init__(self, core: int) -> None:
        binary = build()
        with pinned(core):
            self._popen = subprocess.Popen(
                [str(binary)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
                start_new_session=True,
            )
        self.pid = self._popen.pid
        self.port = int(self._line())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.kill()
        self._popen.communicate()

    def _line(self) -> str:
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            raise LoadError(f"the load generator ended with status {self._popen.wait()}")
        return line

    def ask(self, command: str) -> Answer:
        """Runs one command (see load.c) and waits until it is done."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(command + "\n")
        self._popen.stdin.flush()
        said = json.loads(self._line())
        answer = Answer(**{known.name: said[known.name] for known in fields(Answer) if known.name in said})
        if answer.error:
            raise LoadError(f"{command!r}: {answer.error}")
        return answer
