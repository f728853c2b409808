"""Compiles the hot path while a wheel is built, if ``HATCH_BUILD_HOOK_ENABLE_CUSTOM=1``: ``make dist COMPILED=1``.

mypyc makes one C extension of the modules that ``pyproject.toml`` names, out of the types that they have already.
Their sources stay in the wheel, and a wheel that is built without this runs from them. It works in a temporary folder,
so that a checkout never holds compiled modules that are older than their source.
"""

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

__all__ = ["CompileHook"]


class CompileHook(BuildHookInterface[Any]):
    """Hatchling's build hook ``custom``, for wheels."""

    _folder: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the compiled modules to the wheel, which is then for one platform and Python; raises if one fails."""
        if version == "editable":
            return
        self._folder = Path(tempfile.mkdtemp(prefix="compiled-"))
        for path in _compile(Path(self.root), list(self.config["modules"]), self._folder):
            build_data["force_include"][str(path)] = str(path.relative_to(self._folder / "lib"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes the temporary folder."""
        if self._folder is not None:
            shutil.rmtree(self._folder)


def _compile(root: Path, modules: list[str], folder: Path) -> list[Path]:
    """Compiles ``modules``, patterns below ``root``, into ``folder / "lib"``; returns the files that it made."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    shutil.copytree(root / "bridge", folder / "bridge", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "pyproject.toml", folder / "mypy.toml")
    paths = sorted({str(path.relative_to(root)) for pattern in modules for path in root.glob(pattern)})
    if not paths:
        raise ValueError("No module is named that could be compiled.")
    with contextlib.chdir(folder):
        extensions = mypycify(
            ["--config-file", "mypy.toml", "--python-version", f"{sys.version_info[0]}.{sys.version_info[1]}", *paths],
            opt_level="2",
            target_dir=str(folder / "c"),
        )
        command = build_ext(Distribution({"name": "bridge", "ext_modules": extensions}))
        command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "temp")
        command.parallel = True
        command.ensure_finalized()
        command.run()
    return sorted((folder / "lib").rglob("*.so"))
