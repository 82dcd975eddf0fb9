"""The files in `deploy/`, held against the schemas of what reads them, and against the product.

What needs a Docker daemon, a cluster, nginx or Caddy is not run here; docs/deploying.md says what was, and how.
"""

from __future__ import annotations

import configparser
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from compose_spec.models import ComposeSpecification
from support.pages import REPOSITORY

from konstruct_mcp.config.http import HttpSettings
from konstruct_mcp.config.model import Config
from konstruct_mcp.config.reading import load_config

DEPLOY = REPOSITORY / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
MANIFESTS: list[dict[str, Any]] = [
    document
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    if file.name != "kustomization.yaml"
    for document in yaml.safe_load_all(file.read_text("utf-8"))
]
SERVERS = ["server-1", "server-2"]
ENVIRON = {
    "HOUSE_LEDGER_URL": "postgresql://konstruct:secret@postgres/konstruct",
    "HOUSE_REDIS_URL": "redis://valkey:6379/0",
    "HOUSE_PUBLIC_URL": "https://models.example.org/mcp",
    "OPENAI_API_KEY": "sk-test",
    "ANTHROPIC_API_KEY": "sk-ant-test",
}


def kind(name: str) -> dict[str, Any]:
    (found,) = [one for one in MANIFESTS if one["kind"] == name]
    return found


@pytest.fixture(params=["compose", "kubernetes"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    file = DEPLOY / "konstruct.yaml"
    if request.param == "kubernetes":
        file = tmp_path / "konstruct.yaml"
        file.write_text(kind("ConfigMap")["data"]["konstruct.yaml"])
    return load_config(file, {**ENVIRON, "XDG_DATA_HOME": str(tmp_path)})


def test_the_config_loads_without_a_word(config: Config) -> None:
    assert config.warnings == ()
    assert not config.allow_unknown  # those that somebody has made, and nobody else
    assert config.redis is not None
    assert config.metrics.address == ("0.0.0.0", 9321)


class TestTheImage:
    def test_passes_the_linter(self) -> None:
        hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
        ran = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")

    def test_has_extras_and_files_that_there_are(self) -> None:
        import tomllib

        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
        (extras,) = re.findall(r'"\.\[([a-z,]+)\]"', DOCKERFILE)
        assert set(extras.split(",")) <= set(project["optional-dependencies"])
        copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
        names = {name for line in copied for name in line.split()}
        assert names == {"pyproject.toml", "README.md", "LICENSE", "konstruct_mcp"}
        assert all((REPOSITORY / name).exists() for name in names)
        ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
        assert {line[1:] for line in ignored if line.startswith("!")} == names

    def test_does_not_run_as_root(self) -> None:
        assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)


class TestCompose:
    def test_is_as_the_specification_has_it(self) -> None:
        ComposeSpecification.model_validate(COMPOSE)

    def test_names_files_that_there_are(self) -> None:
        for service in COMPOSE["services"].values():
            for volume in service.get("volumes", ()):
                source = volume.partition(":")[0]
                assert (DEPLOY / source).exists() if source.startswith("./") else source in COMPOSE["volumes"], volume
            assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys()

    @pytest.mark.parametrize("name", SERVERS)
    def test_gives_a_server_what_its_config_names_and_time_to_end(self, name: str, tmp_path: Path) -> None:
        server = COMPOSE["services"][name]
        config = load_config(DEPLOY / "konstruct.yaml", {**ENVIRON, "XDG_DATA_HOME": str(tmp_path)})
        given = {one.removesuffix("_FILE") for one in server["environment"]}
        assert given == ENVIRON.keys()
        assert float(server["stop_grace_period"][:-1]) >= config.http.pause_s + config.http.drain_s + 10
        assert server["read_only"] is True
        (spool,) = [one for one in server["volumes"] if one.endswith(":/var/lib/konstruct")]
        assert not any(spool in COMPOSE["services"][other]["volumes"] for other in SERVERS if other != name)


class TestKubernetes:
    @pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
    def test_takes_each_manifest(self, manifest: dict[str, Any]) -> None:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)

    def test_lists_all_in_the_kustomization(self) -> None:
        listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text("utf-8"))["resources"]
        assert {*listed, "kustomization.yaml"} == {file.name for file in (DEPLOY / "kubernetes").iterdir()}

    def test_asks_what_there_is_and_gives_time_to_end(self) -> None:
        pod = kind("StatefulSet")["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
        assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
        settings = yaml.safe_load(kind("ConfigMap")["data"]["konstruct.yaml"])["konstruct"]["http"]
        assert pod["terminationGracePeriodSeconds"] >= settings["pause_s"] + settings["drain_s"] + 10
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["securityContext"]["runAsNonRoot"] is True

    def test_keeps_one_server_and_scales_the_one_there_is(self) -> None:
        name = kind("StatefulSet")["metadata"]["name"]
        assert kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == name
        labels = kind("StatefulSet")["spec"]["template"]["metadata"]["labels"]
        assert kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels


def test_the_unit_of_systemd_gives_a_server_time_to_end_and_one_place_to_write() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)  # `Environment` may be there more than once
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "konstruct-mcp.service")
    service = unit["Service"]
    http = HttpSettings()
    assert float(service["TimeoutStopSec"]) >= http.pause_s + http.drain_s + 10
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
    assert f"XDG_DATA_HOME={service['WorkingDirectory']} " in (DEPLOY / "konstruct-mcp.service").read_text("utf-8")
    assert service["ProtectSystem"] == "strict"


@pytest.mark.parametrize("file", ["Caddyfile", "nginx.conf"])
def test_a_proxy_knows_both_servers_and_holds_no_answer_back(file: str) -> None:
    text = (DEPLOY / file).read_text("utf-8")
    assert all(f"{name}:8321" in text for name in SERVERS)
    assert ("flush_interval -1" in text) or ("proxy_buffering off" in text)


def test_prometheus_scrapes_both_servers() -> None:
    (job,) = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"{name}:9321" for name in SERVERS]
