"""The settings of many processes that work as one."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar
from urllib.parse import urlsplit

from bridge.config.addresses import is_unspecified
from bridge.config.fields import Applies, Fault, Section, Text, setting

if TYPE_CHECKING:
    from bridge.config.config import Config

__all__ = ["MAX_WORKERS", "ClusterSettings", "port_of"]

_REDIS_URL = re.compile(r"(rediss?(\+(sentinel|cluster))?|unix)://\S+")
_NODE_URL = re.compile(r"https?://[^\s/?#@]+")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_MIN_SECRET_CHARS = 16
_LAST_PORT = 65_535

MAX_WORKERS = 64
"""The most processes that one supervisor runs."""


def port_of(url: str) -> int | None:
    """Returns the port that the URL names; None if it names none."""
    try:
        return urlsplit(url).port
    except ValueError:
        return None


class ClusterSettings(Section, frozen=True, kw_only=True):
    """The settings of processes that share one Redis."""

    section: ClassVar[str] = "cluster"
    title: ClassVar[str] = "cluster: many processes, many machines"

    redis_url: Annotated[
        Text | None,
        setting(
            Applies.RESTART,
            "Redis or Valkey that the nodes share: `redis://`, `rediss://`, `unix://`, "
            "`redis+sentinel://HOST,HOST/NAME`, `redis+cluster://HOST,HOST`; unset: no cluster",
            is_secret=True,
        ),
    ] = None
    cluster_name: Annotated[
        Text, setting(Applies.RESTART, "prefix of the keys in Redis; nodes with the same name form a cluster")
    ] = "bridge"
    cluster_secret: Annotated[
        Text | None,
        setting(
            Applies.RESTART,
            "secret by which the nodes of the cluster recognize each other; the same on all nodes, at least 16 "
            "characters",
            is_secret=True,
        ),
    ] = None
    node_url: Annotated[
        Text | None,
        setting(
            Applies.RESTART,
            "`http://host:port` at which the other nodes reach this one; unset: `host` and `port`",
        ),
    ] = None
    workers: Annotated[
        int,
        setting(
            Applies.RESTART,
            "number of processes that serve on this machine, each a node of the cluster; needs `redis_url`; 0: a "
            "single process, without a supervisor",
            ge=0,
            le=MAX_WORKERS,
        ),
    ] = 0
    redis_timeout_s: Annotated[
        float, setting(Applies.RESTART, "how long Redis may take to answer, in seconds", ge=0.05, le=10)
    ] = 1.0

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds an address that is none, a missing secret, and an address at which others cannot reach this process."""
        yield from self._worker_faults(config)
        if self.redis_url is None:
            return
        if not _REDIS_URL.fullmatch(self.redis_url):
            yield Fault(
                "redis_url", "must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
            )
        if self.cluster_secret is None:
            yield Fault("redis_url", "needs cluster_secret as well: nodes must recognize each other")
        elif len(self.cluster_secret) < _MIN_SECRET_CHARS:
            yield Fault("cluster_secret", f"must have at least {_MIN_SECRET_CHARS} characters")
        if not _NAME.fullmatch(self.cluster_name):
            yield Fault("cluster_name", f"must be lower-case letters, digits and hyphens, got {self.cluster_name!r}")
        if self.node_url is None and not self.workers and is_unspecified(config.server.host):
            reason = f"must be set: other nodes cannot connect to {config.server.host}"
            yield Fault("node_url", reason)
        elif self.node_url is not None and not _NODE_URL.fullmatch(self.node_url):
            yield Fault("node_url", f"must be http://host:port, got {self.node_url!r}")

    def _worker_faults(self, config: "Config") -> Iterator[Fault]:
        """Finds what several processes of one machine could not have side by side."""
        if not self.workers:
            return
        if self.redis_url is None:
            yield Fault("workers", "needs redis_url as well: workers share their calls and keys through Redis")
        media = config.media
        bases = {"udp_port": config.server.port if media.udp_port is None else media.udp_port}
        bases["ice_tcp_port"] = media.ice_tcp_port or 0
        if self.node_url is not None:
            port = port_of(self.node_url)
            if port is None:
                yield Fault("node_url", "needs a port with workers: worker 0 gets it, worker 1 the next one")
            elif port <= config.server.port < port + self.workers:
                reason = f"must leave port {config.server.port} to clients: workers use {port} and the ports after it"
                yield Fault("node_url", reason)
            bases["node_url"] = port or 0
        for name, first in bases.items():
            if first and first + self.workers - 1 > _LAST_PORT:
                yield Fault(
                    name, f"must leave room for {self.workers} workers: they use {first} and the ports after it"
                )
        answering = (config.upstream.upstream, *config.upstream.upstream_fallback)
        of_models = (given.url for given in config.upstream.upstreams.values())
        if "agent" in {*answering, *of_models} and self.node_url is None:
            yield Fault(
                "node_url", "must be set: each agent waits at one worker, so agents need every worker's own address"
            )
