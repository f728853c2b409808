"""Finds Redis by one URL: a single server, one that sentinels name, or a Redis Cluster."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo

from bridge.errors import ConfigError

__all__ = ["RedisAddress", "RedisClient", "close_client"]

RedisClient = Redis | RedisCluster
"""The client that sends commands."""

_PORTS = {"sentinel": 26379}
_PORT = 6379
# redis looks its own version up on the disk for each connection, unless it is given.
_DRIVER = DriverInfo(lib_version=redis.__version__)
_TRIES = 1  # after the first: a connection of the pool may have been closed since its last use


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The address of Redis; ``url`` is as the setting ``redis_url`` has it."""

    url: str

    def new_client(self, timeout_s: float) -> RedisClient:
        """Makes a client that connects when it is used; raises ``ConfigError`` if the URL is of no use."""
        retry = Retry(NoBackoff(), _TRIES)
        try:
            parts = urlsplit(self.url)
            base, _, kind = parts.scheme.partition("+")
            if not kind:
                return Redis.from_url(
                    self.url,
                    socket_timeout=timeout_s,
                    socket_connect_timeout=timeout_s,
                    retry=retry,
                    driver_info=_DRIVER,
                )
            hosts = list(_hosts(parts.netloc.rpartition("@")[2], _PORTS.get(kind, _PORT)))
            login: dict[str, Any] = {
                "username": unquote(parts.username) if parts.username else None,
                "password": unquote(parts.password) if parts.password else None,
                "ssl": base == "rediss",
                "socket_timeout": timeout_s,
                "socket_connect_timeout": timeout_s,
                "driver_info": _DRIVER,
            }
            if kind == "cluster":
                return RedisCluster(startup_nodes=[ClusterNode(*host) for host in hosts], retry=retry, **login)
            service, _, database = parts.path.lstrip("/").partition("/")
            if not service:
                raise ValueError("the name of the service is missing behind the sentinels")
            bounds = {
                "socket_timeout": timeout_s,
                "socket_connect_timeout": timeout_s,
                "driver_info": _DRIVER,
            }
            sentinels = Sentinel(hosts, sentinel_kwargs=bounds)  # type: ignore[no-untyped-call]
            client: Redis = sentinels.master_for(service, db=int(database or 0), retry=retry, **login)
            return client
        except ValueError as error:
            raise ConfigError(f"redis_url: {error}", param="redis_url") from None


async def close_client(client: RedisClient) -> None:
    """Closes a client's connections, and those to the sentinels that it has asked, which redis-py leaves open."""
    await client.aclose()
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for sentinel in () if manager is None else manager.sentinels:
        await sentinel.aclose()


def _hosts(netloc: str, port: int) -> Iterator[tuple[str, int]]:
    for place in netloc.split(","):
        parts = urlsplit(f"//{place}")
        if not parts.hostname:
            raise ValueError("a host is missing")
        yield parts.hostname, parts.port or port
