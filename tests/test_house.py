"""The rules of the house are real: each is broken on purpose, in a copy, and refused."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

HOUSE = Path(__file__).parent.parent
PACKAGE = HOUSE / "proxy"
BIN = Path(sysconfig.get_path("scripts"))
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))

MOST_LINES = 500
LONGER = {  # path under proxy/ → why it is longer
    "net/dial.py": "hedges, rivals and redials of one race share its sockets, deadlines and budget of SYNs",
    "sessions/session.py": "a session from accept to its end; the stages meet here",
    "sessions/dialling.py": "everything between a session's first bytes and its upstream, in the order it happens",
}

BANNED_NAMES = {"utils", "helpers", "common", "misc", "base", "manager", "handler", "types"}


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A house like ours, to break things in."""
    shutil.copytree(PACKAGE, tmp_path / "proxy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HOUSE / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(house: Path) -> subprocess.CompletedProcess[str]:
    return run(BIN / "lint-imports", "--no-logo", "--no-cache", cwd=house)


def plant(house: Path, module: str, line: str) -> Path:
    path = house / "proxy" / module
    text = path.read_text() if path.exists() else ""
    path.write_text(f"{text}\n{line}\n")
    return path


def test_the_contracts_hold(copy: Path) -> None:
    done = lint_imports(copy)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core/address.py", "import socket", "core: values only"),
        ("core/address.py", "import time", "core: values only"),
        ("core/address.py", "from random import choice", "core: values only"),
        ("core/address.py", "def late() -> None:\n    import trio", "core: values only"),
        ("core/address.py", "from proxy.core import snapshot", "no cycles"),
        ("core/outcomes.py", "from proxy.net import sockopt", "floors"),
        ("net/sniff.py", "from proxy.net import dial", "net: stages"),
        ("net/sockopt.py", "from proxy.net import dial", "net: stages"),
        ("net/dial.py", "import structlog", "net: neither logs nor reads"),
        ("net/dial.py", "import yaml", "net: neither logs nor reads"),
        ("net/dial.py", "import asyncio", "one event loop"),
        ("net/accept.py", "from proxy import config", "floors"),
        ("telemetry/leak.py", "from proxy.net import sockopt", "floors"),
        ("config/leak.py", "from proxy.commands import healthcheck", "floors"),
        ("utils.py", "", "floors"),
        ("net/splashing.py", "", "net: stages"),
    ],
)
def test_a_planted_import_is_refused(copy: Path, module: str, line: str, contract: str) -> None:
    plant(copy, module, line)
    done = lint_imports(copy)
    broken = [text for text in done.stdout.splitlines() if text.endswith("BROKEN")]
    assert done.returncode == 1
    assert any(text.startswith(contract) for text in broken), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "says"),
    [
        ("net/relay.py", "import socket\n\nFLAGS = socket.MSG_FASTOPEN", "net/dial.py"),
        ("net/relay.py", "from socket import MSG_FASTOPEN", "net/dial.py"),
        ("session.py", "import time\n\nSTARTED = time.monotonic()", "trio.current_time"),
        ("session.py", "from time import time", "trio.current_time"),
        ("session.py", "import time\n\ntime.sleep(1)", "trio.sleep"),
        ("session.py", "import asyncio", "trio program"),
    ],
)
def test_a_planted_name_is_refused(copy: Path, module: str, line: str, says: str) -> None:
    path = plant(copy, module, line)
    done = run(BIN / "ruff", "check", "--no-cache", "--select", "TID251", path, cwd=copy)
    assert done.returncode == 1
    assert says in done.stdout


def test_dial_may_say_msg_fastopen(copy: Path) -> None:
    path = plant(copy, "net/dial.py", "import socket\n\nFLAGS = socket.MSG_FASTOPEN")
    done = run(BIN / "ruff", "check", "--no-cache", "--select", "TID251", path, cwd=copy)
    assert done.returncode == 0, done.stdout


def packages() -> set[str]:
    """Every package of the program that holds modules."""
    return {module.parts[0] for module in MODULES if len(module.parts) > 1}


def test_every_package_has_its_tests() -> None:
    untested = [name for name in sorted(packages()) if not list((HOUSE / "tests" / name).glob("test_*.py"))]
    assert not untested


@pytest.mark.parametrize("exempt", LONGER)
def test_exemptions_are_needed(exempt: str) -> None:
    assert len((PACKAGE / exempt).read_text().splitlines()) > MOST_LINES


def test_names_say_what_a_file_is_about() -> None:
    assert not [str(m) for m in MODULES if BANNED_NAMES & {*m.parent.parts, m.stem}]


def test_no_file_is_too_long() -> None:
    lengths = {str(m): len((PACKAGE / m).read_text().splitlines()) for m in MODULES}
    assert not {m: n for m, n in lengths.items() if n > MOST_LINES and m not in LONGER}


LOCKS = ["requirements.lock", "requirements-build.lock", "requirements-dev.lock"]


def pins(lock: str) -> dict[str, str]:
    """Distribution → version, of a lock file without its hashes."""
    found = re.findall(r"^([a-z0-9-]+)==(\S+)", (HOUSE / lock).read_text(), re.MULTILINE)
    return dict(found)


def patterns() -> Iterator[tuple[str, re.Pattern[str] | re.Pattern[bytes]]]:
    """Every regular expression that a module of ours keeps, by itself or as one of its methods."""
    for file in sorted((HOUSE / "proxy").rglob("*.py")):
        if "re.compile" in file.read_text():
            name = ".".join(file.relative_to(HOUSE).with_suffix("").parts).removesuffix(".__init__")
            for value in vars(importlib.import_module(name)).values():
                pattern = getattr(value, "__self__", value)
                if isinstance(pattern, re.Pattern):
                    yield name, pattern


def test_no_pattern_is_possessive() -> None:
    """Python 3.11.0 to 3.11.4, Debian 12's among them, match possessive quantifiers and atomic groups wrongly."""
    parse = importlib.import_module("re._parser").parse
    seen = [(name, pattern, repr(parse(pattern.pattern, pattern.flags))) for name, pattern in patterns()]
    assert len(seen) > 20
    assert not [
        (name, pattern) for name, pattern, parsed in seen if "POSSESSIVE" in parsed or "ATOMIC" in parsed
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_files_name_no_host(lock: str) -> None:
    entry = re.compile(r"([a-z0-9-]+==[\w.]+)( ; [^\\]+)?( --hash=sha256:[0-9a-f]{64})+")
    text = re.sub(r" *\\\n +", " ", (HOUSE / lock).read_text())
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines
    assert not [line for line in lines if not entry.fullmatch(line)]
    assert "//" not in text


def test_lock_files_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())
    runtime = {re.split(r"[\[<>=]", wanted)[0] for wanted in project["project"]["dependencies"]}
    assert runtime <= pins("requirements.lock").keys()
    for smaller in ("requirements.lock", "requirements-build.lock"):
        assert pins(smaller).items() <= pins("requirements-dev.lock").items()


def test_what_the_program_imports_is_installed_with_it() -> None:
    """No key of the configuration depends on what else is in the environment; rich is the extra for `top`."""
    imported = {
        name.split(".")[0]
        for file in (HOUSE / "proxy").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]
    asked = {re.split(r"[\[>=<; ]", one)[0].lower() for one in project["dependencies"]}
    distributions = importlib.metadata.packages_distributions()
    ours = {*sys.stdlib_module_names, "proxy", "rich"}
    missing = {
        name for name in imported - ours if not asked & {one.lower() for one in distributions.get(name, ())}
    }
    assert not missing


def test_every_ci_package_has_a_reason() -> None:
    lines = (HOUSE / ".ci" / "packages.txt").read_text().splitlines()
    assert not [
        line for line in lines if line.partition("#")[0].strip() and not line.partition("#")[2].strip()
    ]


@pytest.mark.parametrize(
    ("python", "says"),
    [
        ('case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac', "needs Python 3.11 or newer"),
        ('case "$2" in *ensurepip*) exit 1;; esac', "apt install python3-venv"),
    ],
)
def test_make_says_which_python_it_needs(tmp_path: Path, python: str, says: str) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\n{python}\n")
    interpreter.chmod(0o755)
    for file in ("Makefile", "tools/make-venv", "requirements.lock"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(HOUSE / file, tmp_path / file)
    done = run("make", "run", f"PYTHON={interpreter}", cwd=tmp_path)
    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_make_alone_lists_every_target() -> None:
    makefile = (HOUSE / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    listed = set(re.findall(r"^make (\S+) ", run("make", cwd=HOUSE).stdout, re.MULTILINE))
    assert listed == {*phony[1].split()} - {"environment"}


@pytest.mark.parametrize("file", sorted((HOUSE / ".github").rglob("*.yml")), ids=lambda file: file.name)
def test_github_files_are_yaml(file: Path) -> None:
    assert isinstance(yaml.safe_load(file.read_text()), dict)
