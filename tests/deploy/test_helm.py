"""The Helm chart: Helm lints and renders it, Kubernetes judges what comes of it, and the bridge its settings."""

import json
import subprocess
from typing import Any

import pytest

from bridge.config import load
from tests.frameworks.conftest import python_of
from tests.machine import scaled
from tests.processes import ROOT
from tests.settings import SECTIONS

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(60)]

_LIMIT_S = scaled(40.0)
_CHART = ROOT / "deploy" / "helm" / "bridge"
_KUBERNETES = ["1.27", "1.34"]
_LEAST: dict[str, Any] = {"image": {"repository": "registry.example/bridge"}, "apiKey": "sk-of-the-tests"}
_MOST: dict[str, Any] = {
    **_LEAST,
    "existingSecret": "mine",
    "replicas": 3,
    "network": {"advertise": ["203.0.113.7", "2001:db8::7"]},
    "settings": 'max_calls = 5\n[log]\nlevel = "debug"\n',
    "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "recordings": {"enabled": True, "existingClaim": "recordings"},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/bridge"}},
    "nodeSelector": {"pool": "media"},
    "tolerations": [{"key": "media", "operator": "Exists"}],
    "extraEnv": [{"name": "AWS_REGION", "value": "eu-central-1"}],
}


def _helm(values: dict[str, Any], version: str = _KUBERNETES[-1]) -> subprocess.CompletedProcess[str]:
    command = [python_of("deploy"), str(ROOT / "tests" / "deploy" / "render.py"), str(_CHART), version]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, timeout=_LIMIT_S)


def _rendered(values: dict[str, Any], version: str = _KUBERNETES[-1]) -> dict[str, Any]:
    """The documents, by kind and name."""
    done = _helm(values, version)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["complaints"] == []
    return {f"{one['kind']} {one['metadata']['name']}": one for one in told["documents"]}


def _settings_of(documents: dict[str, Any], tmp_path: Any) -> Any:
    """What the pod's file and environment say together, read as the daemon does."""
    pod = documents["Deployment demo-bridge"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    environ = {one["name"]: one.get("value", "192.0.2.1") for one in container["env"]}
    environ = {name: value.replace("$(NODE_ADDRESS)", environ["NODE_ADDRESS"]) for name, value in environ.items()}
    secrets = tmp_path / "api_key"
    secrets.write_text("sk-of-the-tests")
    assert environ["BRIDGE_API_KEY_FILE"] == "/etc/bridge-secrets/api_key"
    environ["BRIDGE_API_KEY_FILE"] = str(secrets)
    settings = tmp_path / "bridge.toml"
    settings.write_text(documents["ConfigMap demo-bridge"]["data"]["bridge.toml"])
    assert container["args"] == ["serve", "--config", "/etc/bridge/bridge.toml"]
    return load({}, environ, str(settings), SECTIONS)


@pytest.mark.parametrize("version", _KUBERNETES)
@pytest.mark.parametrize("values", [_LEAST, _MOST], ids=["least", "most"])
def test_helm_and_kubernetes_find_nothing_wrong(values: dict[str, Any], version: str) -> None:
    """With the fewest values and with nearly all, for the oldest and the newest Kubernetes."""
    documents = _rendered(values, version)
    has_monitor = "ServiceMonitor demo-bridge" in documents
    assert has_monitor is (values is _MOST)
    assert ("Secret demo-bridge" in documents) is (values is _LEAST)
    assert {"Deployment demo-bridge", "Service demo-bridge", "PodDisruptionBudget demo-bridge"} <= documents.keys()


def test_calls_have_as_long_as_the_pod(tmp_path: Any) -> None:
    """A stopped pod is killed after five hours, and its calls are closed before that."""
    documents = _rendered(_LEAST)
    pod = documents["Deployment demo-bridge"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 18_000
    server = _settings_of(documents, tmp_path).server
    assert server.drain_s + server.close_deadline_s < 18_000
    assert server.drain_s >= 17_900


def test_the_pod_has_the_nodes_ports(tmp_path: Any) -> None:
    """With hostNetwork: one port for TCP and UDP, at the node's address, with a key, and as the image's user."""
    documents = _rendered(_LEAST)
    pod = documents["Deployment demo-bridge"]["spec"]["template"]["spec"]
    assert pod["hostNetwork"] is True
    config = _settings_of(documents, tmp_path)
    assert (config.server.host, config.server.port, config.media.udp_port) == ("0.0.0.0", 8080, 8080)
    assert config.media.advertise == ("192.0.2.1",)
    assert config.access.api_key == ("sk-of-the-tests",)
    user = (ROOT / "Dockerfile").read_text().partition("\nUSER ")[2].partition(":")[0]
    assert str(pod["securityContext"]["runAsUser"]) == user
    ports = {one["name"]: one["containerPort"] for one in pod["containers"][0]["ports"]}
    assert ports == {"http": 8080, "media": 8080, "metrics": config.observe.metrics_port}


def test_a_ports_own_service(tmp_path: Any) -> None:
    """With nodePort the pod listens at the very port that callers are told of."""
    documents = _rendered({**_LEAST, "network": {"mode": "nodePort"}})
    [media] = documents["Service demo-bridge-media"]["spec"]["ports"]
    assert media["protocol"] == "UDP"
    assert {media["port"], media["targetPort"], media["nodePort"]} == {30080}
    assert _settings_of(documents, tmp_path).media.udp_port == 30080
    assert "hostNetwork" not in documents["Deployment demo-bridge"]["spec"]["template"]["spec"]


def test_all_that_may_be_set(tmp_path: Any) -> None:
    """The file's settings count, and addresses, volumes, claims and labels are where they belong."""
    documents = _rendered(_MOST)
    config = _settings_of(documents, tmp_path)
    assert (config.calls.max_calls, config.media.advertise) == (5, ("203.0.113.7", "2001:db8::7"))
    assert config.recording.record_dir == "/recordings"
    pod = documents["Deployment demo-bridge"]["spec"]["template"]["spec"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert volumes["recordings"]["persistentVolumeClaim"] == {"claimName": "recordings"}
    assert volumes["secrets"]["secret"] == {"secretName": "mine"}
    assert documents["ServiceMonitor demo-bridge"]["metadata"]["labels"]["release"] == "prometheus"


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"apiKey": "sk-of-the-tests"}, "repository"),
        ({"image": {"repository": "registry.example/bridge"}}, "apiKey"),
        ({**_LEAST, "replica": 2}, "replica"),
        ({**_LEAST, "network": {"mode": "loadBalancer"}}, "mode"),
        ({**_LEAST, "replicas": 2, "network": {"mode": "nodePort"}}, "one replica"),
    ],
)
def test_mistakes_are_told(values: dict[str, Any], complaint: str) -> None:
    """What is missing, misspelled or does not go together stops the installation, by name."""
    done = _helm(values)
    assert done.returncode != 0
    assert complaint in done.stderr
