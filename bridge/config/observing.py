"""The settings of what operators see from outside: metrics, readiness, webhooks and traces."""

import base64
import binascii
import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, ClassVar

from bridge.config.addresses import is_address
from bridge.config.fields import Applies, Fault, Port, Positive, Section, Text, setting
from bridge.config.words import masked

if TYPE_CHECKING:
    from bridge.config.config import Config

__all__ = ["ObserveSettings"]

RESTART = Applies.RESTART
_WEBHOOK_URL = re.compile(r"https?://[^\s/?#@]+(/\S*|\?\S*)?")
_HTTP_URL = re.compile(r"https?://[^\s/@]+(/\S*)?")


class ObserveSettings(Section, frozen=True, kw_only=True):
    """What operators see from outside."""

    section: ClassVar[str] = "observe"
    title: ClassVar[str] = "observation: metrics, readiness and webhooks"

    metrics_port: Annotated[
        Port | None,
        setting(
            RESTART,
            "TCP port for `/metrics`, `/readyz` and `/healthz` without a key; unset: metrics are on `port`, with an "
            "API key",
        ),
    ] = None
    metrics_host: Annotated[Text, setting(RESTART, "address to listen on for `metrics_port`; keep it private")] = (
        "127.0.0.1"
    )

    webhook_url: Annotated[
        tuple[Text, ...],
        setting(
            RESTART,
            "`https://…` to which webhooks about calls, recordings and upstreams are sent: see the guide on webhooks",
        ),
    ] = ()
    webhook_secret: Annotated[
        tuple[Text, ...],
        setting(RESTART, "secret with which webhooks are signed: `whsec_` and base64, or any text", is_secret=True),
    ] = ()
    webhook_queue: Annotated[
        Text | None, setting(RESTART, "file in which webhooks wait, so that a restart loses none")
    ] = None
    webhook_queue_events: Annotated[
        Positive, setting(RESTART, "maximum number of webhooks that wait; further ones are dropped and counted")
    ] = 10_000
    webhook_retry_s: Annotated[
        float,
        setting(RESTART, "how long delivery of a webhook is attempted, in seconds", ge=0, le=604_800),
    ] = 86_400.0
    webhook_private: Annotated[
        bool, setting(RESTART, "allow webhooks to private addresses and over plain `http://`")
    ] = False
    otlp_endpoint: Annotated[
        Text | None,
        setting(
            RESTART,
            "`http://collector:4318` to which a trace of each call is sent (OTLP over HTTP); needs the extra `otel`",
        ),
    ] = None
    ready_free_bytes: Annotated[
        int,
        setting(RESTART, "free space on the disk of `record_dir` below which `/readyz` answers 503, in bytes", ge=0),
    ] = 268_435_456

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds addresses that are none, and webhooks that could not be sent as they should."""
        for url in self.webhook_url:
            if not _WEBHOOK_URL.fullmatch(url):
                yield Fault("webhook_url", f"must be https://host, optionally with a path, got {masked(url)[:100]!r}")
            elif not url.startswith("https:") and not self.webhook_private:
                yield Fault("webhook_url", f"must be https unless webhook_private is set, got {masked(url)[:100]!r}")
        if self.webhook_url and not self.webhook_secret:
            yield Fault("webhook_url", "needs webhook_secret as well: receivers must be able to verify the sender")
        if self.webhook_url and self.webhook_queue is None:
            yield Fault("webhook_url", "needs webhook_queue as well")
        if self.otlp_endpoint is not None:
            if not _HTTP_URL.fullmatch(self.otlp_endpoint):
                yield Fault("otlp_endpoint", f"must be http(s)://host:port, got {masked(self.otlp_endpoint)[:100]!r}")
            elif not _is_installed("opentelemetry.exporter.otlp.proto.http"):
                yield Fault("otlp_endpoint", "needs OpenTelemetry: pip install '.[otel]'")
        if not all(map(_is_webhook_secret, self.webhook_secret)):
            yield Fault("webhook_secret", "must be base64 after whsec_, got a value that is not shown")
        if self.metrics_host != "localhost" and not is_address(self.metrics_host):
            yield Fault("metrics_host", f"must be an IP address or localhost, got {self.metrics_host!r}")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it would be in is missing as well
        return False


def _is_webhook_secret(secret: str) -> bool:
    try:
        base64.b64decode(secret.removeprefix("whsec_") if secret.startswith("whsec_") else "", validate=True)
    except binascii.Error:
        return False
    return True
