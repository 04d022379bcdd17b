"""The Kubernetes manifests, judged offline by the schemas of 1.29 to the newest; their configurations by ours."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any  # what is in a manifest is for its schema to say

import kubernetes_validate
import pytest
import yaml

HOUSE = Path(__file__).parents[2]
KUBERNETES = HOUSE / "deploy" / "kubernetes"
VERSIONS = [f"1.{minor}" for minor in range(29, int(kubernetes_validate.latest_version().split(".")[1]) + 1)]
NOT_MANIFESTS = {"kustomization.yaml", "config.yaml"}
OF_AN_OPERATOR = {"PodMonitor"}  # its schema is not Kubernetes' own

Manifest = dict[str, Any]


def manifests() -> Iterator[tuple[str, Manifest]]:
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        if path.name not in NOT_MANIFESTS:
            for manifest in yaml.safe_load_all(path.read_text()):
                yield f"{path.relative_to(KUBERNETES)}:{manifest['kind']}", manifest


ALL = dict(manifests())
KUSTOMIZATIONS = sorted(path.parent.name for path in KUBERNETES.rglob("kustomization.yaml"))


def pods() -> Iterator[tuple[str, Manifest]]:
    for name, manifest in ALL.items():
        template = manifest.get("spec", {}).get("template")
        if template is not None:
            yield name, template["spec"]


def ours(pod: Manifest) -> list[Manifest]:
    return [box for box in pod.get("initContainers", []) + pod["containers"] if box["image"] == "tfo-proxy"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_what_kubernetes_expects(version: str) -> None:
    for manifest in ALL.values():
        if manifest["kind"] not in OF_AN_OPERATOR:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_key_is_refused() -> None:
    pod = yaml.safe_load((KUBERNETES / "sidecar" / "app.yaml").read_text())
    sidecar = pod["spec"]["template"]["spec"]["initContainers"][0]
    sidecar["restartPolcy"] = sidecar.pop("restartPolicy")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, VERSIONS[-1], strict=True)


def test_the_newest_known_version_is_new_enough() -> None:
    assert "1.37" in VERSIONS


@pytest.mark.parametrize("config", sorted(KUBERNETES.rglob("config.yaml")), ids=lambda path: path.parent.name)
def test_the_configuration_is_valid_without_a_warning(config: Path, tmp_path: Path) -> None:
    (tmp_path / "admin-token").write_text("0123456789abcdef0123456789abcdef\n")
    copy = tmp_path / "config.yaml"
    text = config.read_text().replace("/run/secrets/tfo-proxy", str(tmp_path))
    copy.write_text(text.replace("/var/lib/tfo-proxy", str(tmp_path)))  # a volume in the pod
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "check", copy], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not re.search(r"^.*config\.yaml:\d", done.stderr, re.MULTILINE), done.stderr


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_a_kustomization_names_files_that_are_there(name: str) -> None:
    said = yaml.safe_load((KUBERNETES / name / "kustomization.yaml").read_text())
    files = said["resources"] + [file for made in said["configMapGenerator"] for file in made["files"]]
    assert all((KUBERNETES / name / file).is_file() for file in files)
    named = {
        volume["configMap"]["name"]
        for where, pod in pods()
        if where.startswith(f"{name}/")
        for volume in pod.get("volumes", [])
        if "configMap" in volume
    }
    assert named == {made["name"] for made in said["configMapGenerator"]}


if shutil.which("kubectl"):  # an extra: Debian's is older than what the manifests are for

    @pytest.mark.parametrize("name", KUSTOMIZATIONS)
    def test_kustomize_builds_it(name: str) -> None:
        built = subprocess.run(
            ["kubectl", "kustomize", KUBERNETES / name], capture_output=True, text=True, check=True
        )
        for manifest in yaml.safe_load_all(built.stdout):
            kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


@pytest.mark.parametrize(("name", "pod"), list(pods()))
def test_the_proxy_runs_under_the_restricted_level(name: str, pod: Manifest) -> None:
    """Pod Security Standards, restricted: what it asks of a container, for ours."""
    for container in ours(pod):
        security: Mapping[str, Any] = {**pod.get("securityContext", {}), **container["securityContext"]}
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["runAsNonRoot"] is True
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert security["readOnlyRootFilesystem"] is True
        assert security["runAsUser"] == 65532


@pytest.mark.parametrize(("name", "pod"), [(name, pod) for name, pod in pods() if ours(pod)])
def test_it_gets_longer_to_end_than_it_drains(name: str, pod: Manifest) -> None:
    config = yaml.safe_load((KUBERNETES / name.partition("/")[0] / "config.yaml").read_text())
    assert pod["terminationGracePeriodSeconds"] > float(config["drain"].removesuffix("s"))
    for container in ours(pod):
        assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "admin"}
        admin = {"name": "admin", "containerPort": int(config["admin"]["bind"].rpartition(":")[2])}
        assert admin in container["ports"]


def test_the_pod_monitor_finds_the_pods() -> None:
    monitor = ALL["monitoring/podmonitor.yaml:PodMonitor"]
    (expression,) = monitor["spec"]["selector"]["matchExpressions"]
    labels = {
        ALL[name]["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]
        for name in ("base/egress.yaml:Deployment", "daemonset/daemonset.yaml:DaemonSet")
    }
    assert labels == set(expression["values"])
    assert monitor["spec"]["podMetricsEndpoints"][0]["port"] == "admin"


@pytest.mark.netns
def test_the_rules_of_the_init_container_are_rules() -> None:
    rules = KUBERNETES / "transparent" / "redirect.nft"
    subprocess.run(["unshare", "--user", "--map-root-user", "--net", "nft", "--file", rules], check=True)
