"""The settings of many processes that work as one."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from bridge.config.addresses import is_unspecified
from bridge.config.fields import Applies, Fault, Section, Text, setting

if TYPE_CHECKING:
    from bridge.config.config import Config

__all__ = ["ClusterSettings"]

_REDIS_URL = re.compile(r"(rediss?(\+(sentinel|cluster))?|unix)://\S+")
_NODE_URL = re.compile(r"https?://[^\s/?#@]+")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_MIN_SECRET_CHARS = 16


class ClusterSettings(Section, frozen=True, kw_only=True):
    """The settings of processes that share one Redis."""

    section: ClassVar[str] = "cluster"
    title: ClassVar[str] = "cluster: many processes, many machines"

    redis_url: Annotated[
        Text | None,
        setting(
            Applies.RESTART,
            "Redis or Valkey that processes share: `redis://`, `rediss://`, `unix://`, "
            "`redis+sentinel://HOST,HOST/NAME`, `redis+cluster://HOST,HOST`; unset: this process is by itself",
            is_secret=True,
        ),
    ] = None
    cluster_name: Annotated[
        Text, setting(Applies.RESTART, "what the keys in Redis begin with; processes of one name work as one")
    ] = "bridge"
    cluster_secret: Annotated[
        Text | None,
        setting(
            Applies.RESTART,
            "by which processes of the cluster know each other, the same in all; 16 characters or more",
            is_secret=True,
        ),
    ] = None
    node_url: Annotated[
        Text | None,
        setting(
            Applies.RESTART,
            "`http://host:port` at which the other processes reach this one; unset: `host` and `port`",
        ),
    ] = None
    redis_timeout_s: Annotated[
        float, setting(Applies.RESTART, "time that a question to Redis may take, in seconds", ge=0.05, le=10)
    ] = 1.0

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds an address that is none, a missing secret, and an address at which others cannot reach this process."""
        if self.redis_url is None:
            return
        if not _REDIS_URL.fullmatch(self.redis_url):
            yield Fault(
                "redis_url", "must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
            )
        if self.cluster_secret is None:
            yield Fault("redis_url", "needs cluster_secret as well: processes must know who is one of them")
        elif len(self.cluster_secret) < _MIN_SECRET_CHARS:
            yield Fault("cluster_secret", f"must have at least {_MIN_SECRET_CHARS} characters")
        if not _NAME.fullmatch(self.cluster_name):
            yield Fault("cluster_name", f"must be lower-case letters, digits and hyphens, got {self.cluster_name!r}")
        if self.node_url is None and is_unspecified(config.server.host):
            reason = f"must be set: other processes cannot be told to connect to {config.server.host}"
            yield Fault("node_url", reason)
        elif self.node_url is not None and not _NODE_URL.fullmatch(self.node_url):
            yield Fault("node_url", f"must be http://host:port, got {self.node_url!r}")
