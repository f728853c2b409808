"""The documents: links lead somewhere, commands and settings exist, and the site can be built."""

import re
import shlex
import sys
from collections import Counter
from pathlib import Path
from unittest import mock

import pytest

from bridge.cli import main
from bridge.config import load
from tests.machine import scaled
from tests.processes import ran
from tools.reference import BLOCKS, names_in
from tools.sources import ROOT

_DOCS = ROOT / "docs"
_PAGES = sorted([*ROOT.glob("*.md"), *_DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
_FENCE = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_COMMAND = re.compile(
    r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?bridge ((?:serve|call|bench|check|replay|doctor|calls|listen)\b.*)$",
    re.MULTILINE,
)
_MAY_BE_LONG = 6 * 1024
_BUILD_LIMIT_S = scaled(60.0)


def _prose(page: Path) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", page.read_text())


def _anchors(page: Path) -> Counter[str]:
    """Those of a page's headings, as forges and MkDocs make them."""
    headings = _HEADING.findall(_prose(page))
    kept = ("".join(char for char in heading.lower() if char.isalnum() or char in " -_") for heading in headings)
    return Counter(text.strip().replace(" ", "-") for text in kept)


def _commands(page: Path) -> list[list[str]]:
    """What a page tells to type that begins with ``bridge``, as words."""
    code = "\n".join(block for _, block in _FENCE.findall(page.read_text())).replace("\\\n", " ")
    return [shlex.split(command, comments=True) for command in _COMMAND.findall(code)]


def _settings(page: Path) -> list[str]:
    """The files of settings that a page shows."""
    return [code for language, code in _FENCE.findall(page.read_text()) if language == "toml"]


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    """The file is there, and if the link names a heading, so is the heading."""
    broken = []
    for link in _LINK.findall(_prose(page)):
        target, _, anchor = link.partition("#")
        if target.startswith(("https:", "http:", "mailto:")):
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", sorted(_DOCS.rglob("*.md")), ids=lambda page: page.relative_to(_DOCS).as_posix())
def test_no_two_headings_of_a_page_have_the_same_anchor(page: Path) -> None:
    """Forges and MkDocs number the second one differently, so a link to it would be right in one place alone."""
    assert [anchor for anchor, count in _anchors(page).items() if count > 1] == []


def test_the_check_of_links_sees_a_broken_one(tmp_path: Path) -> None:
    """A file that is not there, and a heading that is not there."""
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n[good](#a-page) [code](other.md) [none](#another-page)\n\n```\n[not a link](x.md)\n```\n"
    )
    with pytest.raises(AssertionError, match=r"other\.md.*#another-page"):
        test_every_link_inside_the_repository_leads_somewhere(page)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_can_be_typed(page: Path) -> None:
    """``bridge`` knows the commands and flags that a page shows."""
    for words in _commands(page):
        with mock.patch(f"bridge.cli._{words[0]}", return_value=0) as command, pytest.raises(SystemExit) as ending:
            main(words)
        assert (ending.value.code, command.call_count) == (0, 1), words


@pytest.mark.parametrize("page", [page for page in _PAGES if _settings(page)], ids=lambda page: page.stem)
def test_every_file_of_settings_is_one(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bridge takes the settings that a page shows, once the keys are in the environment."""
    for settings in _settings(page):
        for variable in re.findall(r'key_env = "(\w+)"', settings):
            monkeypatch.setenv(variable, "key")
        path = tmp_path / "bridge.toml"
        path.write_text(settings)
        load({}, {}, str(path))


def test_there_are_commands_to_check() -> None:
    """The check above has something to do."""
    assert sum(len(_commands(page)) for page in _PAGES) > 10


def test_the_readme_is_short() -> None:
    """Whoever wants to know what it is reads one page."""
    assert len((ROOT / "README.md").read_bytes()) <= _MAY_BE_LONG


def test_every_generated_part_is_on_one_page() -> None:
    """Nothing is made for nobody, and nothing twice."""
    used = Counter(name for page in _DOCS.rglob("*.md") for name in names_in(page.read_text()))
    assert {name for name in used if name in BLOCKS} == BLOCKS.keys()
    assert set(used.values()) == {1}


def test_the_upstreams_of_the_guide_are_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example can be pasted into a file."""
    monkeypatch.setenv("DASHSCOPE_KEY", "key")
    text = (_DOCS / "guides" / "upstreams.md").read_text()
    (example,) = (code for language, code in _FENCE.findall(text) if language == "toml")
    path = tmp_path / "bridge.toml"
    path.write_text(example)
    config = load({}, {}, str(path))
    assert config.upstream.upstream_fallback == ("qwen", "local")
    assert config.upstream.upstreams["qwen"].models == ("qwen3-omni",)


@pytest.fixture(scope="module", params=[True], ids=["uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The site is built once: nothing of the bridge's runs here."""
    return "asyncio", {"use_uvloop": request.param, "debug": False}


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_the_site_builds_strictly(tmp_path: Path) -> None:
    """MkDocs has nothing to complain of: every page is in the menu, every link and anchor is known."""
    code, out, complaints = await ran(
        sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path), limit_s=_BUILD_LIMIT_S
    )
    assert code == 0, out + complaints
    assert (tmp_path / "reference" / "settings" / "index.html").exists()
    assert (tmp_path / "pictures" / "loss.png").exists()
