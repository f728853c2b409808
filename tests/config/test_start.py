"""How a start is refused: by what is quick to know first."""

import socket
from contextlib import closing

import pytest

from bridge.daemon import Daemon
from bridge.errors import ConfigError
from tests.settings import config_for_tests


@pytest.mark.parametrize("name", ["port", "udp_port", "metrics_port", "audiosocket_port"])
async def test_ports_are_tried_before_models_are_loaded(name: str) -> None:
    """A port that is taken is told at once, also if the models could not be loaded: that takes seconds."""
    kind = socket.SOCK_DGRAM if name == "udp_port" else socket.SOCK_STREAM
    with closing(socket.socket(socket.AF_INET, kind)) as taken:
        taken.bind(("0.0.0.0", 0))
        settings = {name: taken.getsockname()[1], "engine": "local", "engine_whisper": "/nowhere"}
        with pytest.raises(ConfigError) as refused:
            async with Daemon(config_for_tests(**settings)):
                pass
    assert refused.value.param == name
    assert "in use" in refused.value.message
