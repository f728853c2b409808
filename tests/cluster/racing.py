"""A process that races others for what can be had once: ``python -m tests.cluster.racing URL NAME WHAT TRIES WORDS``.

It says ``ready``, reads at which time to start, tries as often as it was told, all at once, and says how often it won.
"""

import asyncio
import sys
import time

from bridge.calls.quotas import Reservation
from bridge.cluster.keys import RedisKeyStore
from bridge.cluster.nodes import new_node_id
from bridge.cluster.quotas import RedisKeyQuota
from bridge.cluster.store import SharedStore
from bridge.errors import OverLimit, Unauthorized

__all__: list[str] = []

_SECRET = "a secret of the tests, long enough"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def _race(url: str, name: str, what: str, tries: int, keys: list[str]) -> int:
    async with SharedStore(url, name, timeout_s=10.0) as store:
        held = Reservation()
        quota = RedisKeyQuota(store, new_node_id(), int(keys[0]) if what == "quota" else 0, name="calls", what="calls")
        minted = RedisKeyStore(store, _SECRET)
        tokens = [found.grant.token for key in keys if what == "keys" and (found := await minted.find(key))]
        _say("ready")
        start_at = float(await asyncio.to_thread(sys.stdin.readline))
        time.sleep(max(0.0, start_at - time.time()))  # noqa: ASYNC251  # to the millisecond, and nothing else runs

        async def one(number: int) -> bool:
            try:
                if what == "quota":
                    await quota.reserve_place("key_1", held)
                else:
                    await minted.spend(tokens[number])
            except (OverLimit, Unauthorized):
                return False
            return True

        won = sum(await asyncio.gather(*map(one, range(tries))))
        _say(str(won))
        await asyncio.to_thread(sys.stdin.readline)  # what it has won it holds until then
        return won


if __name__ == "__main__":
    asyncio.run(_race(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5].split(",")))
