"""A daemon that every simulated carrier can call: the settings for it, and what each shows to be let in."""

import json
import socket
import urllib.request
from uuid import uuid4

from bridge.client.carriers.dialling import Dialling
from bridge.client.carriers.table import CARRIERS, SIMULATORS

__all__ = ["CARRIERS", "Lines"]

_PUBLIC = "https://bridge.example.com"
_UUID, _KEY = str(uuid4()), "a2V5LTE="
_SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
_SHOWN = {"audiosocket": _UUID, "genesys": f"{_KEY}:{_SECRET}"}


class Lines:
    """What to start the daemon with, and then how to dial it."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._audiosocket_port = free.getsockname()[1]

    @property
    def flags(self) -> tuple[str, ...]:
        """Of ``bridge serve``, with which all endpoints are open."""
        flags = {"--public-url": _PUBLIC, "--twilio-sign-in": "either", "--acs-audience": "benchmark"}
        flags |= {"--genesys-api-key": _KEY, "--genesys-client-secret": _SECRET}
        flags |= {"--audiosocket-port": str(self._audiosocket_port)}
        for simulator in SIMULATORS.values():
            if simulator.variable:
                name = simulator.variable.removeprefix("BRIDGE_").lower().replace("_", "-")
                flags[f"--{name}"] = _SHOWN.get(simulator.name, _SECRET)
        return tuple(word for flag in flags.items() for word in flag)

    def dialling(self, carrier: str, url: str) -> Dialling:
        """One call to the daemon at ``url``; who has no secret of its own gets a key for it."""
        secret = _SHOWN.get(carrier) or (_SECRET if SIMULATORS[carrier].variable else _minted(url))
        at = f"127.0.0.1:{self._audiosocket_port}" if carrier == "audiosocket" else url
        return Dialling(carrier=carrier, url=at, secret=secret, public_url=_PUBLIC)


def _minted(url: str) -> str:
    body = json.dumps({"bridge": {"role": "telephone"}}).encode()
    headers = {"Content-Type": "application/json"}
    wanted = urllib.request.Request(f"{url}/v1/realtime/client_secrets", body, headers)
    with urllib.request.urlopen(wanted, timeout=10) as response:
        return str(json.load(response)["value"])
