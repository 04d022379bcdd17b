from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from proxy.commands import group
from proxy.lab.namespaces import Namespace, ensure_allowed, python_environment
from proxy.lab.rtnetlink import rtnetlink

Capsys = pytest.CaptureFixture[str]
CONFIG = "listeners: {a: {bind: '127.0.0.1:0', mode: forward, to: '127.0.0.1:9'}}\n"


@pytest.mark.netns
def test_what_is_to_be_mended_appears_and_disappears(tmp_path: Path) -> None:
    ensure_allowed()
    namespace = Namespace.create()
    with namespace.entered(), rtnetlink() as netlink:
        netlink.bring_up("lo")
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG)

    def doctor(*arguments: str) -> tuple[int, dict[str, str], str]:
        command = [sys.executable, "-m", "proxy", "doctor", *arguments]
        text = namespace.run(command, env=python_environment())
        told = namespace.run([*command, "--json"], env=python_environment())
        assert text.stderr == told.stderr == ""
        assert text.returncode == told.returncode
        report = json.loads(told.stdout)
        assert report["healthy"] is (told.returncode == 0)
        assert all(one["why"] for one in report["findings"] if one["level"] in {"warning", "mend"})
        assert all(one["mend"] for one in report["findings"] if one["level"] in {"warning", "mend"})
        return text.returncode, {one["check"]: one["level"] for one in report["findings"]}, text.stdout

    namespace.sysctl("net.ipv4.tcp_fastopen", 2)
    namespace.sysctl("net.ipv4.tcp_fastopen_blackhole_timeout_sec", 60)
    code, found, text = doctor(str(config))
    assert (code, found["client-bit"], found["blackhole-pause"]) == (1, "mend", "mend")
    assert "2 to mend" in text
    namespace.sysctl("net.ipv4.tcp_fastopen", 3)
    namespace.sysctl("net.ipv4.tcp_fastopen_blackhole_timeout_sec", 0)
    code, found, text = doctor(str(config))
    assert code == 0
    assert "mend" not in found.values()
    assert (found["self-test"], found["server-bit"]) == ("ok", "ok")
    assert text.endswith("fine\n")
    assert doctor()[0] == 0
    namespace.close()


def test_a_bad_configuration(tmp_path: Path, capsys: Capsys) -> None:
    (tmp_path / "c.yaml").write_text("drain: 5\n")
    assert group.main(["doctor", str(tmp_path / "c.yaml")]) == 78
    assert "has no unit" in capsys.readouterr().err


def test_usage() -> None:
    assert group.main(["doctor", "a", "b"]) == 2
