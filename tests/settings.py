"""The settings of a daemon that a test runs."""

from typing import Any

from bridge.config import Config, of_flat
from bridge.telephony.settings import carrier_sections
from tests.machine import scaled

__all__ = ["SECTIONS", "config_for_tests"]

SECTIONS = carrier_sections()  # at import: in a test, the event loop must not wait for a file


def config_for_tests(**settings: Any) -> Config:
    """A daemon on free ports of loopback, with the parrot for an engine, that ends at once; ``settings`` count first.

    It sheds no load: the test, its peers and other tests share its processor, so that lag says nothing of the daemon.
    Nor does it give up a peer that a busy machine keeps from connecting.
    """
    usual = {
        **{"port": 0, "udp_port": 0, "drain_s": 0, "engine": "parrot", "max_loop_lag_ms": 0},
        "connect_timeout_s": min(scaled(10.0), 300.0),
    }
    return of_flat({**usual, **settings}, SECTIONS)
