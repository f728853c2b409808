"""The attacker's process: ``python -m tests.hostile.attacker MODULE:FUNCTION``.

It says ``ready`` when everything is imported, reads its order from standard input (the daemon's address and the
function's arguments, as JSON), and writes what the function returned. A function may say that it is ``under_way``.
"""

import importlib
import json
import os
import sys

from tests.hostile.stage import Address

__all__ = ["main", "under_way"]

_NICENESS = 5  # what is measured is the daemon, not who gets the processor first


def under_way() -> None:
    """Tells the test that what it waits for has begun."""
    sys.stdout.write("under way\n")
    sys.stdout.flush()


def main() -> None:
    """Runs one attack."""
    module, _, name = sys.argv[1].partition(":")
    attack = getattr(importlib.import_module(module), name)
    os.nice(_NICENESS)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    address, arguments = json.load(sys.stdin)
    json.dump(attack(Address(**address), *arguments), sys.stdout)


if __name__ == "__main__":
    main()
