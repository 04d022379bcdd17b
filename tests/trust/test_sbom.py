"""The bill of materials: what is locked is listed, once, with a licence, in the form that others read."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

HOUSE = Path(__file__).parent.parent.parent
LOCKED = {
    match[1].lower().replace("_", "-"): match[2]
    for line in (HOUSE / "requirements.lock").read_text().splitlines()
    if "os_name == 'nt'" not in line and (match := re.match(r"([A-Za-z0-9._-]+)==([^ ;\\]+)", line))
}


def made(folder: Path, **environment: str) -> tuple[dict[str, object], str]:
    command: list[str | Path] = [sys.executable, HOUSE / "tools" / "sbom.py", folder]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    sbom: dict[str, object] = json.loads((folder / "sbom.cdx.json").read_text())
    return sbom, (folder / "licences.txt").read_text()


def test_all_that_is_locked_is_listed_with_its_licence(tmp_path: Path) -> None:
    sbom, licences = made(tmp_path)
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    components = sbom["components"]
    assert isinstance(components, list)
    assert {one["name"]: one["version"] for one in components} == LOCKED
    assert all(one["purl"] == f"pkg:pypi/{one['name']}@{one['version']}" for one in components)
    assert all("expression" in one["licenses"][0] for one in components), "each licence has an SPDX name"
    assert len(licences.splitlines()) == len(LOCKED)
    assert "unknown" not in licences


def test_who_needs_whom(tmp_path: Path) -> None:
    sbom, _ = made(tmp_path)
    dependencies = sbom["dependencies"]
    assert isinstance(dependencies, list)
    needs = {
        one["ref"].partition("@")[0]: [ref.partition("@")[0] for ref in one["dependsOn"]]
        for one in dependencies
    }
    assert "pkg:pypi/outcome" in needs["pkg:pypi/trio"]
    assert {"pkg:pypi/trio", "pkg:pypi/msgspec", "pkg:pypi/pyyaml"} <= set(needs["pkg:generic/tfo-proxy"])
    refs = {one["ref"] for one in dependencies}
    assert all(ref in refs for one in dependencies for ref in one["dependsOn"])


def test_the_same_environment_makes_the_same_bytes(tmp_path: Path) -> None:
    made(tmp_path / "a", SOURCE_DATE_EPOCH="1577836800")
    sbom, _ = made(tmp_path / "b", SOURCE_DATE_EPOCH="1577836800")
    assert (tmp_path / "a" / "sbom.cdx.json").read_bytes() == (tmp_path / "b" / "sbom.cdx.json").read_bytes()
    metadata = sbom["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["timestamp"] == "2020-01-01T00:00:00Z"
    serial = sbom["serialNumber"]
    assert isinstance(serial, str)
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", serial)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    copy = tmp_path / "house"
    (copy / "tools").mkdir(parents=True)
    (copy / "proxy").mkdir()
    (copy / "proxy" / "__init__.py").write_text('__version__ = "1"\n')
    (copy / "tools" / "sbom.py").write_text((HOUSE / "tools" / "sbom.py").read_text())
    (copy / "requirements.lock").write_text("no-such-package==1.0\n")
    done = subprocess.run(
        [sys.executable, copy / "tools" / "sbom.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no-such-package of requirements.lock is not installed" in done.stderr
