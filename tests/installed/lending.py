"""A package is installed into an environment of its own without the network: its dependencies are lent to it."""

import sys
import sysconfig
import venv
from pathlib import Path

__all__ = ["OFFLINE_PIP", "lend", "new_environment"]

OFFLINE_PIP = {
    "PIP_CACHE_DIR": "/nonexistent",
    "PIP_CONFIG_FILE": "/dev/null",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_FIND_LINKS": "",
    "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as the isolation that it takes away
    "PIP_NO_INDEX": "1",
}
"""With this in its environment pip finds what is lent, and asks nobody for anything."""

_KEPT = ("bridge", "_bridge", "__editable__", "pip")


def lend(site_packages: Path) -> None:
    """Makes what runs these tests importable from another environment, and visible to its pip; the bridge excepted."""
    ours = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
    lent = site_packages / "_lent"
    lent.mkdir()
    for folder in ours:
        for entry in folder.iterdir():
            if entry.suffix != ".pth" and not entry.name.startswith(_KEPT):
                (lent / entry.name).symlink_to(entry)
    (site_packages / "lent.pth").write_text(f"{lent}\n")


def new_environment(folder: Path) -> Path:
    """An environment with nothing but what is lent; its ``bin`` folder."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    lend(folder / "lib" / python / "site-packages")
    return folder / "bin"
