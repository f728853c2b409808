"""What ``deploy`` brings: files that fit together, and settings that there are. Docker itself runs in no test."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.config import load
from tests.processes import ROOT
from tests.settings import SECTIONS

_DEPLOY = ROOT / "deploy"
_GRAFANA = _DEPLOY / "grafana"
_VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::[-?][^}]*)?\}")


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Those of the compose file, by name."""
    found: dict[str, Any] = _yaml(_DEPLOY / "compose" / "compose.yml")["services"]
    return found


def test_every_mounted_file_is_there(services: dict[str, Any]) -> None:
    """A path that does not exist would be made by Docker, as an empty folder."""
    named = set(_yaml(_DEPLOY / "compose" / "compose.yml")["volumes"])
    mounts = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())]
    missing = [each for each in mounts if each not in named and not (_DEPLOY / "compose" / each).exists()]
    assert len(mounts) > 3
    assert missing == []
    context = _DEPLOY / "compose" / services["bridge"]["build"]["context"]
    assert (context / "Dockerfile").exists()


def test_every_variable_is_in_the_example(services: dict[str, Any]) -> None:
    """Whoever copies the example sees all that may be set."""
    used = {name for file in ("compose", "cluster") for name in _VARIABLE.findall(_text(f"compose/{file}.yml"))}
    lines = (_DEPLOY / "compose" / ".env.example").read_text().splitlines()
    assert used == {line.partition("=")[0] for line in lines if line and not line.startswith("#")}


def _text(path: str) -> str:
    return (_DEPLOY / path).read_text()


def test_the_nodes_of_a_cluster_take_their_settings() -> None:
    """Each is a configuration, with an address and a UDP port of its own, which is published; Caddy knows all."""
    services = _yaml(_DEPLOY / "compose" / "cluster.yml")["services"]
    nodes = {name: service for name, service in services.items() if name.startswith("node")}
    values = {"API_KEY": "sk-test", "ADVERTISE": "203.0.113.7", "CLUSTER_SECRET": "0123456789abcdef"}
    ports = set()
    for name, node in nodes.items():
        environ = {
            key: _VARIABLE.sub(lambda match: values[match[1]], text) for key, text in node["environment"].items()
        }
        config = load({}, environ, None, SECTIONS)
        assert config.cluster.node_url == f"http://{name}:{config.server.port}"
        assert node["ports"] == [f"{config.media.udp_port}:{config.media.udp_port}/udp"]
        assert f"{name}:{config.server.port}" in _text("compose/Caddyfile")
        ports.add(config.media.udp_port)
    assert len(ports) == len(nodes) == 3
    assert (_DEPLOY / "compose" / services["caddy"]["volumes"][0].split(":")[0]).is_file()


def test_the_bridge_takes_its_settings(services: dict[str, Any]) -> None:
    """What compose puts into its environment is a configuration, with the port that Prometheus scrapes."""
    bridge = services["bridge"]
    secret = "a secret of the tests"
    values = {"API_KEY": "sk-test", "ADVERTISE": "203.0.113.7", "CLUSTER_SECRET": secret, "TURN_SECRET": secret}
    environ = {
        name: _VARIABLE.sub(lambda match: values[match[1]], text) for name, text in bridge["environment"].items()
    }
    assert bridge["command"] == ["serve", "--host", "0.0.0.0"]
    config = load({"host": "0.0.0.0"}, environ, None, SECTIONS)
    [job] = _yaml(_DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"]
    [target] = job["static_configs"][0]["targets"]
    assert (job["job_name"], target) == ("bridge", f"bridge:{config.observe.metrics_port}")
    assert config.cluster.redis_url == "redis://redis"
    assert config.server.drain_s + config.server.close_deadline_s < int(bridge["stop_grace_period"].removesuffix("s"))
    assert "--static-auth-secret=${TURN_SECRET}" in services["coturn"]["command"]
    published = [str(port).rpartition(":")[2] for port in bridge["ports"]]
    assert published == ["8080/tcp", "8080/udp"]


def test_grafana_finds_prometheus_and_the_dashboard(services: dict[str, Any]) -> None:
    """The data source has the id that the panels ask for, and the dashboard lies where it is looked for."""
    [source] = _yaml(_GRAFANA / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = _yaml(_GRAFANA / "provisioning" / "dashboards" / "bridge.yml")["providers"]
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]
    dashboard = json.loads((_GRAFANA / "dashboards" / "bridge.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
