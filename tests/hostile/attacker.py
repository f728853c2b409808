"""The attacker's process: ``python -m tests.hostile.attacker MODULE:FUNCTION``.

It says ``ready`` when everything is imported, reads its order from standard input (the daemon's address and the
function's arguments, as JSON), and writes what the function returned.
"""

import importlib
import json
import os
import sys

from tests.hostile.stage import Address

_NICENESS = 5  # what is measured is the daemon, not who gets the processor first


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
