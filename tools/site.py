"""What MkDocs must know of links that leave ``docs``: a page is read in the repository and on the site alike.

On the site a picture from elsewhere in the repository is copied along, and a link to another file of the repository
becomes its name, because the site does not have it. In tables a bar inside code is written ``\\|`` for GitHub; MkDocs
wants it bare, and would show the backslash.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

__all__ = ["on_files", "on_page_markdown"]

_ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"`[^`\n]+`")
_PICTURES = ("benchmarks/*.png",)
_FOLDER = "pictures"


def on_files(files: Any, config: Any) -> Any:
    """The pictures join the site."""
    from mkdocs.structure.files import File

    for pattern in _PICTURES:
        for path in sorted(_ROOT.glob(pattern)):
            files.append(File.generated(config, f"{_FOLDER}/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links that leave ``docs`` lead to what the site has, and code in tables has no backslash before a bar."""
    folder = posixpath.dirname(page.file.src_uri)

    def inside(match: re.Match[str]) -> str:
        is_picture, text, target, _ = match.groups()
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if path.startswith("docs/"):
            return match[0]
        if is_picture:
            return f"![{text}]({posixpath.relpath(f'{_FOLDER}/{posixpath.basename(path)}', folder or '.')})"
        return f"{text} (`{path}` in the repository)" if text != path else f"`{path}`"

    return "\n".join(_with_bars(line) for line in _LINK.sub(inside, markdown).split("\n"))


def _with_bars(line: str) -> str:
    return _CODE.sub(lambda match: match[0].replace(r"\|", "|"), line) if line.startswith("|") else line
