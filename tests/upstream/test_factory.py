"""Which upstream answers which model, and which model a call has that names none."""

from typing import Any

import pytest

from bridge.config import NamedUpstream, UpstreamSettings
from bridge.engine.parrot import Parrot
from bridge.engine.service import Engine
from bridge.session.info import CallInfo
from bridge.upstream.factory import UpstreamFactory
from bridge.wire.stats import WEBSOCKET
from tests.engine.talk import Recorder
from tests.fakes import CONTEXT
from tests.upstream.service import Service, Visit

_QWEN = NamedUpstream(url="wss://qwen.example/realtime", profile="qwen")
_OPENAI = NamedUpstream(url="wss://openai.example/v1/realtime", models=("gpt-realtime-2.1",))


def _dialler(**settings: Any) -> UpstreamFactory:
    return UpstreamFactory(
        UpstreamSettings(**settings),
        None,  # type: ignore[arg-type]
        new_engine=lambda context, name: Engine(Parrot(), context),
    )


@pytest.mark.parametrize(
    ("settings", "model"),
    [
        ({}, "gpt-realtime-2.1"),
        ({"default_model": "mine"}, "mine"),
        ({"upstream": "wss://a.example/v1/realtime"}, "gpt-realtime-2.1"),
        ({"upstream": "wss://a.example/v1/realtime", "upstream_profile": "qwen"}, "qwen3.5-omni-flash-realtime"),
        ({"upstream": "qwen", "upstreams": {"qwen": _QWEN}}, "qwen3.5-omni-flash-realtime"),
        ({"upstream": "qwen", "upstreams": {"qwen": _QWEN}, "default_model": "mine"}, "mine"),
        ({"upstream": "qwen", "upstreams": {"qwen": _QWEN, "openai": _OPENAI}}, "gpt-realtime-2.1"),
    ],
)
def test_the_model_of_a_call_that_names_none(settings: dict[str, Any], model: str) -> None:
    """The setting if somebody has set it or given it an upstream; else the default upstream's own; else the setting."""
    assert _dialler(**settings).default_model == model


async def _leave(visit: Visit) -> None:
    """Closes before a word was said."""


async def _greet_and_stay(visit: Visit) -> None:
    await visit.greet()
    await visit.until_closed()


@pytest.mark.parametrize(
    ("names_model", "queries"),
    [
        (True, ["model=asked", "model=asked"]),
        (False, ["model=qwen3.5-omni-flash-realtime", "model=gpt-realtime-2.1"]),
    ],
)
async def test_each_upstream_is_dialled_by_its_own_default(names_model: bool, queries: list[str]) -> None:
    """A fallback of another make is not asked for the first one's model, unless the call names it."""
    said = Recorder()
    info = CallInfo(CONTEXT, transport=WEBSOCKET, model="asked", started_at=0.0, names_model=names_model)
    async with Service.serving(_leave) as first, Service.serving(_greet_and_stay) as spare:
        upstreams = {
            "qwen": NamedUpstream(url=first.url, profile="qwen"),
            "spare": NamedUpstream(url=spare.url),
        }
        settings = {"upstream": "qwen", "upstream_fallback": ("spare",), "upstreams": upstreams, "upstream_tries": 1}
        async with _dialler(**settings) as dialler:
            upstream = dialler.new_upstream(info)
            upstream.start(said, said.state)
            visits = [await first.visit(1), await spare.visit(1)]
            await upstream.aclose()
    assert [visit.path.partition("?")[2] for visit in visits] == queries


def test_the_engine_judges_for_itself_alone() -> None:
    """Calls that anybody else answers are relayed, agents among them."""
    dialler = _dialler(upstreams={"openai": _OPENAI})
    assert dialler.is_relayed("gpt-realtime-2.1")
    assert not dialler.is_relayed("any")
    assert _dialler(upstream="agent").is_relayed("any")
