"""`python tools/sbom.py FOLDER`: what is installed of requirements.lock, as CycloneDX JSON and as a list of licences.

Read from the installed packages themselves (importlib.metadata), so it is what really runs. The same environment makes
the same bytes: there is no time in it unless ``SOURCE_DATE_EPOCH`` says one.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import sys
import uuid
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import TypeAlias

HOUSE = Path(__file__).parent.parent
Json: TypeAlias = dict[str, object]

_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^ ;\\]+)", re.MULTILINE)
_REQUIRED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)
_OWN_LICENCE = "Apache-2.0"
_SPDX = {  # what classifiers and old metadata call them
    "MIT License": "MIT",
    "MIT": "MIT",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "BSD-3-Clause": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}


def normal(name: str) -> str:
    """A package's name as indexes write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(lock: str) -> list[Distribution]:
    """The packages of a lock file that this platform needs; ends the program where one is missing or another."""
    found: list[Distribution] = []
    for name, version in _PINNED.findall(lock):
        if _is_for_windows(lock, name):
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"sbom: {name} of requirements.lock is not installed; run `make run` once")
        if package.version != version:
            sys.exit(f"sbom: {name} is installed as {package.version}, and locked as {version}")
        found.append(package)
    return sorted(found, key=lambda package: normal(package.name))


def licence_of(package: Distribution) -> str:
    """An SPDX expression where the package gives one, or its own words."""
    metadata = package.metadata
    stated: str = metadata.get("License-Expression") or ""
    if stated:
        return stated
    classified = [
        line.rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier") or []
        if line.startswith("License :: ") and line != "License :: OSI Approved"
    ]
    words = [str(metadata.get("License") or "").strip().partition("\n")[0], *classified]
    known = list(dict.fromkeys(_SPDX.get(word, word) for word in words if word))
    spdx = [word for word in known if word in _SPDX.values()]
    return " OR ".join(spdx) or (known[0] if known else "unknown")


def bill(packages: list[Distribution], version: str) -> Json:
    """The whole bill of materials (CycloneDX 1.6)."""
    names = {normal(package.name) for package in packages}
    reference = {
        normal(package.name): f"pkg:pypi/{normal(package.name)}@{package.version}" for package in packages
    }
    own = f"pkg:generic/tfo-proxy@{version}"
    metadata: Json = {
        "component": {
            "type": "application", "bom-ref": own, "name": "tfo-proxy", "version": version,
            "licenses": [{"license": {"id": _OWN_LICENCE}}],
        },
    }  # fmt: skip
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is not None:
        moment = dt.datetime.fromtimestamp(int(epoch), dt.UTC)
        metadata["timestamp"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    needed = {normal(package.name): _needs(package) & names for package in packages}
    direct = sorted(reference[name] for name in names - {one for some in needed.values() for one in some})
    made: Json = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": metadata,
        "components": [_component(package, reference[normal(package.name)]) for package in packages],
        "dependencies": [
            {"ref": own, "dependsOn": direct},
            *(
                {"ref": reference[name], "dependsOn": sorted(reference[one] for one in needed[name])}
                for name in sorted(names)
            ),
        ],
    }
    return {
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(made, sort_keys=True))}",
        **made,
    }


def _component(package: Distribution, reference: str) -> Json:
    licence = licence_of(package)
    is_expression = re.fullmatch(r"[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*", licence) is not None
    return {
        "type": "library",
        "bom-ref": reference,
        "name": normal(package.name),
        "version": package.version,
        "purl": reference,
        "licenses": [{"expression": licence} if is_expression else {"license": {"name": licence}}],
    }


def _needs(package: Distribution) -> set[str]:
    """What it requires without extras; requirements of other platforms are not installed, and fall out later."""
    plain = [line for line in package.requires or [] if "extra ==" not in line]
    return {normal(match[0]) for line in plain if (match := _REQUIRED.match(line))}


def _is_for_windows(lock: str, name: str) -> bool:
    return re.search(rf"^{re.escape(name)}==[^\n]*;[^\n]*os_name == 'nt'", lock, re.MULTILINE) is not None


def main(folder: str) -> None:
    """Write ``sbom.cdx.json`` and ``licences.txt`` to ``folder``."""
    packages = installed((HOUSE / "requirements.lock").read_text())
    version = _VERSION.search((HOUSE / "proxy" / "__init__.py").read_text())
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    made = bill(packages, version[1] if version else "0")
    (target / "sbom.cdx.json").write_text(json.dumps(made, indent=2) + "\n")
    lines = [f"{normal(package.name)} {package.version}  {licence_of(package)}\n" for package in packages]
    (target / "licences.txt").write_text("".join(lines))
    print(f"{folder}/sbom.cdx.json, {folder}/licences.txt: {len(packages)} packages")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "dist")
