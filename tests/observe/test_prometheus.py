"""Prometheus itself, as Debian has it: it scrapes a live daemon, and its tools judge what they get."""

import asyncio
import json
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from bridge.daemon import Daemon
from tests.end_to_end.web import open_socket, request
from tests.machine import scaled
from tests.processes import ROOT, ran, started
from tests.settings import config_for_tests

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(60, func_only=True)]

_RULES = ROOT / "deploy" / "prometheus"
_KEY = "sk-observe-test"
_NAME = re.compile(r"\b(?:bridge|process)_[a-z_]+\b")
_LIMIT_S = scaled(20.0)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


def _tool(name: str) -> str:
    found = shutil.which(name)
    assert found, f"needs {name}: make foreign"
    return found


def _queries() -> list[str]:
    """Those of the dashboard's panels, for all instances and a usual interval."""
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "bridge.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(found) > 20
    return [each.replace("$__rate_interval", "1m").replace("$instance", ".*") for each in found]


async def _page(daemon: Daemon) -> bytes:
    """The metrics while a call runs, so that all of them have something to say."""
    async with open_socket(daemon.url, "model=any", additional_headers={"Authorization": f"Bearer {_KEY}"}):
        reply = await request("GET", f"{daemon.url}metrics", headers={"Authorization": f"Bearer {_KEY}"})
    assert reply.status == 200
    return reply.body


class Prometheus:
    """A running server at ``url``."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def ask(self, path: str) -> Any:
        """The data of an answer of its API."""
        async with httpx2.AsyncClient(trust_env=False, timeout=_LIMIT_S) as client:
            return (await client.get(f"{self.url}/api/v1/{path}")).json()["data"]

    async def until(self, query: str, value: str) -> None:
        """Returns when the query has this value."""
        async with asyncio.timeout(_LIMIT_S):
            while True:
                result = (await self.ask(f"query?query={quote(query)}"))["result"]
                if [each["value"][1] for each in result] == [value]:
                    return


@asynccontextmanager
async def _prometheus(folder: Path, port: int) -> AsyncIterator[Prometheus]:
    """One that scrapes the daemon at ``port`` every second, with the rules of ``deploy``."""
    config = folder / "prometheus.yml"
    config.write_text(
        f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{_RULES}/alerts.yml']\n"
        f"scrape_configs:\n  - job_name: bridge\n    authorization: {{credentials: {_KEY}}}\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = (f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}")
    async with started(_tool("prometheus"), *flags, stdout=PIPE, stderr=PIPE) as process, asyncio.timeout(_LIMIT_S):
        assert process.stderr is not None
        while b"ready to receive web requests" not in (line := await process.stderr.readline()):
            assert line, "Prometheus has ended"
        yield Prometheus(f"http://{address}")


async def test_prometheus_scrapes_a_live_daemon(tmp_path: Path) -> None:
    """With a key, in the form that it asks for; what a call leaves is found by a query, and each rule can be judged."""
    async with Daemon(config_for_tests(api_key=(_KEY,))) as daemon, _prometheus(tmp_path, daemon.port) as prometheus:
        await prometheus.until('up{job="bridge"}', "1")
        async with open_socket(daemon.url, "model=any", additional_headers={"Authorization": f"Bearer {_KEY}"}):
            await prometheus.until('bridge_calls{transport="websocket",state="connected"}', "1")
        await prometheus.until('bridge_calls_closed_total{transport="websocket",result="success"}', "1")
        await prometheus.until('bridge_http_requests_total{route="/v1/realtime",status="101"}', "1")
        [target] = (await prometheus.ask("targets"))["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
        [group] = (await prometheus.ask("rules"))["groups"]
        assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
        assert len(group["rules"]) > 10
        for expression in _queries():
            answer = await prometheus.ask(f"query?query={quote(expression)}")
            assert answer["resultType"] == "vector", expression


async def test_promtool_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    """Names, units, types and help are as Prometheus wants them."""
    async with Daemon(config_for_tests(api_key=(_KEY,))) as daemon:
        page = await _page(daemon)
    async with started(_tool("promtool"), "check", "metrics", stdin=PIPE) as process, asyncio.timeout(_LIMIT_S):
        out, complaints = await process.communicate(page)
    assert (process.returncode, out, complaints) == (0, b"", b"")


async def test_the_alerts_fire() -> None:
    """Each at what it is for, with its words, and none while all is well."""
    code, out, complaints = await ran(_tool("promtool"), "test", "rules", f"{_RULES}/alerts_test.yml")
    assert (code, "SUCCESS" in out) == (0, True), out + complaints


async def test_alerts_and_panels_are_about_metrics_that_there_are(tmp_path: Path) -> None:
    """A rule about a name that nobody exports would never fire, a panel stay empty; each alert is tried both ways."""
    hooks = {"webhook_url": ("https://hooks.invalid/",), "webhook_secret": ("s",), "webhook_queue": f"{tmp_path}/hooks"}
    async with Daemon(config_for_tests(api_key=(_KEY,), record_dir=str(tmp_path), **hooks)) as daemon:
        exported = set(_NAME.findall((await _page(daemon)).decode()))
    rules, tried = (_RULES / "alerts.yml").read_text(), (_RULES / "alerts_test.yml").read_text()
    expressions = re.findall(r"^        expr: (.*?)^        (?:for|labels):", rules, re.DOTALL | re.MULTILINE)
    alerts = re.findall(r"- alert: (\w+)", rules)
    assert len(expressions) == len(alerts) > 10
    assert {name for text in [*expressions, *_queries()] for name in _NAME.findall(text)} - exported == set()
    assert {alert: len(re.findall(rf"alertname: {alert}\b", tried)) for alert in alerts} == dict.fromkeys(alerts, 2)
