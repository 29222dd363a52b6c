"""What `deploy/` says fits the server: options, routes, users, and time to end."""

import configparser
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from mooring.cli.config import read_config
from mooring.cli.main import app

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
MANIFESTS = {
    manifest["kind"]: manifest
    for manifest in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
}
POD = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def settings_of(text: str, folder: Path) -> dict[str, Any]:
    """Return what `mooring serve --config` makes of a file; raise for keys it does not know."""
    file = folder / "mooring.yaml"
    file.write_text(text)
    group: Any = typer.main.get_command(app)
    context = typer.Context(group.commands["serve"])
    read_config(context, str(file))
    return dict(context.default_map or {})


@pytest.fixture(params=["mooring.yaml", "kubernetes.yaml"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    text = (DEPLOY / "mooring.yaml").read_text()
    if request.param == "kubernetes.yaml":
        text = MANIFESTS["ConfigMap"]["data"]["mooring.yaml"]
    return settings_of(text, tmp_path)


def seconds_to_end(settings: dict[str, Any]) -> float:
    return float(settings["drain_delay"]) + float(settings["drain_seconds"])


def test_every_key_is_an_option(settings: dict[str, Any]) -> None:
    assert settings["uri"] == "models:/assistant@champion"
    assert settings["served_model_name"] == ["assistant"]
    assert settings["api_keys_file"]


def test_servers_get_the_time_they_need_to_end(settings: dict[str, Any]) -> None:
    unit = (DEPLOY / "mooring.service").read_text()
    assert POD["terminationGracePeriodSeconds"] >= seconds_to_end(settings) + 5
    (stop,) = [line for line in unit.splitlines() if line.startswith("TimeoutStopSec=")]
    assert float(stop.partition("=")[2]) >= seconds_to_end(settings) + 5
    assert "KillMode=mixed" in unit.splitlines()


def test_the_unit_starts_what_there_is(tmp_path: Path) -> None:
    parser = configparser.RawConfigParser(strict=False)
    parser.read(DEPLOY / "mooring.service")
    program, *arguments = shlex.split(parser["Service"]["ExecStart"])
    assert Path(program).name == "mooring"
    assert arguments[:2] == ["serve", "--config"]
    assert arguments[2:] == ["/etc/mooring/mooring.yaml"]


def test_probes_and_ports_are_the_servers_own(tmp_path: Path) -> None:
    settings = settings_of(MANIFESTS["ConfigMap"]["data"]["mooring.yaml"], tmp_path)
    (port,) = CONTAINER["ports"]
    assert port["containerPort"] == int(settings["port"])
    assert CONTAINER["readinessProbe"]["httpGet"] == {"path": "/ready", "port": port["name"]}
    assert CONTAINER["livenessProbe"]["httpGet"] == {"path": "/health", "port": port["name"]}
    (outside,) = MANIFESTS["Service"]["spec"]["ports"]
    assert outside["targetPort"] == port["name"]


def test_what_the_pod_reads_is_mounted(tmp_path: Path) -> None:
    settings = settings_of(MANIFESTS["ConfigMap"]["data"]["mooring.yaml"], tmp_path)
    mounts = {mount["mountPath"]: mount["name"] for mount in CONTAINER["volumeMounts"]}
    assert {volume["name"] for volume in POD["volumes"]} == set(mounts.values())
    config = CONTAINER["args"][CONTAINER["args"].index("--config") + 1]
    assert mounts[str(Path(config).parent)] == "config"
    assert mounts[str(Path(settings["api_keys_file"]).parent)] == "keys"
    assert mounts["/home/mooring/.cache"] == "cache"  # all else in the image is read-only


def test_everything_is_selected_by_the_label_it_has() -> None:
    labels = MANIFESTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert MANIFESTS["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert MANIFESTS["Service"]["spec"]["selector"] == labels
    assert MANIFESTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels


def test_the_image_is_made_of_what_there_is() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extra,) = [line.partition("=")[2] for line in lines if line.startswith("ARG EXTRAS=")]
    assert extra in project["optional-dependencies"]
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    assert copied
    assert all((ROOT / name).exists() for name in copied)
    (user,) = [line.split()[1] for line in lines if line.startswith("USER")]
    assert int(user) == POD["securityContext"]["runAsUser"]
    assert 'ENTRYPOINT ["mooring", "serve"]' in lines


def test_the_page_shows_what_the_file_says(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "production.md").read_text()
    shown = page.split("## A configuration")[1].split("```text\n")[1].split("```")[0]
    whole = settings_of((DEPLOY / "mooring.yaml").read_text(), tmp_path)
    assert settings_of(shown, tmp_path).items() <= whole.items()
