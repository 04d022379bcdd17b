"""The command line as a user meets it: real processes, exit codes, and never a traceback."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pytest
import trio

from proxy import __version__
from proxy.commands import group

ROOT = Path(__file__).parents[2]
GOOD = 'listeners: {a: {bind: "127.0.0.1:18000", mode: forward, to: "10.77.2.10:80"}}\n'


def tfo_proxy(*argv: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proxy", *map(str, argv)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env=os.environ | environment,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def bad_files(tmp_path: Path) -> dict[str, Path]:
    """Bad files of every kind, none of which may be waited for."""
    contents: dict[str, bytes] = {
        "empty": b"",
        "not a mapping": b"- a\n",
        "10 MB": GOOD.encode() * 130_000,
        "binary": bytes(range(256)) * 20,
        "an executable": Path(sys.executable).read_bytes()[:500_000],
        "deep nesting": b"[" * 500_000,
        "deep mapping": b"a:\n" + b"".join(b" " * n + b"a:\n" for n in range(1, 1200)),
        "alias bomb": b"a0: &a0 [x]\n" + b"".join(
            b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 12)
        ),
        "self alias": b"listeners: &l {a: *l}\n",
        "utf-16": GOOD.encode("utf-16"),
        "utf-16 without a mark": GOOD.encode("utf-16-le"),
        "latin-1": GOOD.encode() + b"# gr\xfcn\n",
        "one long line": b"x" * 1_000_000,
        "many values": b"listeners: [" + b"a," * 500_000,
        "many mistakes": b"".join(b"key%d: 1\n" % n for n in range(40_000)),
        "duplicate keys": b"drain: 5s\n" * 40_000,
        "two documents": GOOD.encode() + b"---\n" + GOOD.encode(),
        "a python object": b"listeners: !!python/object/apply:os.system [id]\n",
        "a broken reference": b"listeners: ${\n",
        "a terminal escape": b"listeners: {'\\e[2J': 1}\n",
    }  # fmt: skip
    paths: dict[str, Path] = {}
    for number, (name, content) in enumerate(contents.items()):
        paths[name] = tmp_path / f"bad{number}.yaml"
        paths[name].write_bytes(content)
    paths["missing"] = tmp_path / "none.yaml"
    paths["a directory"] = tmp_path
    paths["a fifo"] = tmp_path / "fifo"
    os.mkfifo(paths["a fifo"])
    paths["a device"] = Path("/dev/zero")
    paths["a file as a directory"] = paths["empty"] / "x.yaml"
    return paths


BAD_KINDS = [
    "empty", "not a mapping", "10 MB", "binary", "an executable", "deep nesting", "deep mapping", "alias bomb",
    "self alias",
    "utf-16", "utf-16 without a mark", "latin-1", "one long line", "many values", "many mistakes", "duplicate keys",
    "two documents", "a python object", "a broken reference", "a terminal escape", "missing", "a directory", "a fifo",
    "a device", "a file as a directory",
]  # fmt: skip


@pytest.mark.parametrize("kind", BAD_KINDS)
def test_a_bad_file_ends_in_one_clear_message(bad_files: dict[str, Path], kind: str) -> None:
    path = bad_files[kind]
    done = tfo_proxy("check", path)  # and that within a minute, or it fails
    assert done.returncode == 78
    assert done.stdout == ""
    head, *rest = done.stderr.splitlines()
    assert re.match(rf"{re.escape(str(path))}:(\d+:\d+:)? \S.*; \S", head), head
    assert len(rest) <= 301
    assert len(done.stderr) < 60_000
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("command", ["show", "run"])
def test_every_command_that_takes_a_file_says_so_too(tmp_path: Path, command: str) -> None:
    (tmp_path / "bad.yaml").write_text("drain: 5\n")
    for path in (tmp_path / "bad.yaml", tmp_path, tmp_path / "none"):
        done = tfo_proxy(command, path)
        assert done.returncode == 78, done.stderr
        assert done.stderr.startswith(f"{path}:")


@pytest.mark.root
def test_a_file_one_may_not_read() -> None:
    code = (
        "import os, sys; from proxy.commands import group; import proxy.commands.check, proxy.config\n"
        "os.setresuid(65532, 65532, 65532); sys.exit(group.main(sys.argv[1:]))"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "c.yaml")
        path.write_text(GOOD)
        path.chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", code, "check", path], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert (
        done.stderr
        == f"{path}: cannot be read: Permission denied; let user 65532 read it, and enter its folders\n"
    )
    assert done.returncode == 78


def test_bad_usage_is_told_from_bad_configuration(good: Path) -> None:
    for argv in (
        ["nope"],
        ["check"],
        ["check", str(good), str(good), "--route", "a:1"],
        ["check", "--nope", str(good)],
        ["completion", "tcsh"],
    ):
        done = tfo_proxy(*argv)
        assert done.returncode == 2, argv
        assert "Usage: tfo-proxy" in done.stderr
    assert tfo_proxy().returncode == 2


def test_a_command_that_was_nearly_there() -> None:
    done = tfo_proxy("prboe", "example.com:443")
    assert done.returncode == 2
    assert done.stderr.endswith("Error: No such command 'prboe'. Did you mean probe?\n")
    assert tfo_proxy("xyzzy").stderr.endswith("Error: No such command 'xyzzy'.\n")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command(flag: str) -> None:
    done = tfo_proxy(flag)
    assert done.returncode == 0
    assert all(re.search(rf"^  {name} +\S.*\.$", done.stdout, re.MULTILINE) for name in group.COMMANDS)


def test_every_command_has_its_own_help() -> None:
    for name in group.COMMANDS.keys() - {"healthcheck"}:  # answered before click is loaded
        done = tfo_proxy(name, "--help")
        assert done.returncode == 0, name
        assert done.stdout.lower().startswith("usage: tfo-proxy"), name


def test_a_command_is_imported_only_when_it_is_called() -> None:
    code = "import sys; from proxy.commands import group; group.main(['version']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = set(done.stdout.splitlines()[-1].split())
    assert "proxy.commands.version" in modules
    assert (
        not {"trio", "yaml", "msgspec", "proxy.config", "proxy.commands.run", "proxy.commands.check"}
        & modules
    )


def test_a_reader_that_has_read_enough_is_no_failure(good: Path) -> None:
    script = f"{sys.executable} -m proxy schema | head -c 1; echo; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{\n0\n", "")


def test_a_full_disk_is_a_failure() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "proxy", "schema"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "tfo-proxy: cannot write: No space left on device\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(good: Path, closed: str) -> None:
    script = f"{sys.executable} -m proxy check {good} {closed}"
    assert subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_text_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    path = tmp_path / "näme.yaml"
    path.write_text("größe: 1\n")
    done = tfo_proxy("check", path, PYTHONIOENCODING="ascii")
    assert done.returncode == 78
    assert "unknown key" in done.stderr


def test_a_mistake_of_ours_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(click.Group, "invoke", broken)
    monkeypatch.delenv("TFO_PROXY_TRACEBACK", raising=False)
    assert group.main(["version"]) == 1
    said = "tfo-proxy: this is a mistake of ours, please report it: ZeroDivisionError: oh\n"
    assert capsys.readouterr().err == said
    monkeypatch.setenv("TFO_PROXY_TRACEBACK", "1")
    assert group.main(["version"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code"), [(KeyboardInterrupt(), 130), (SystemExit(3), 3), (SystemExit(None), 0)]
)
def test_how_a_command_may_end(monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int) -> None:
    def end(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(click.Group, "invoke", end)
    assert group.main(["version"]) == code


def test_version(good: Path) -> None:
    said = tfo_proxy("version").stdout
    assert said.partition("\n")[0] + "\n" == tfo_proxy("--version").stdout == f"tfo-proxy {__version__}\n"
    assert platform.python_version() in said
    assert os.uname().release in said
    assert f"trio {trio.__version__}" in said
