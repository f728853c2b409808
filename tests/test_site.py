"""What the site changes in pages that are written for the repository."""

from types import SimpleNamespace

from tools.site import on_page_markdown

_PAGE = SimpleNamespace(file=SimpleNamespace(src_uri="guides/engine.md"))


def test_bars_in_code_in_tables_have_no_backslash() -> None:
    """GitHub needs it there; MkDocs would show it. Elsewhere a backslash is what is meant."""
    markdown = "| `--dialect ga\\|beta` | a \\| b |\n\nRun `grep 'a\\|b'`."
    assert on_page_markdown(markdown, _PAGE, None, None) == "| `--dialect ga|beta` | a \\| b |\n\nRun `grep 'a\\|b'`."


def test_links_to_the_repository_become_names() -> None:
    """A link within the documents stays."""
    markdown = "[a file](../../examples/listen.py), [a page](../concepts.md)"
    shown = on_page_markdown(markdown, _PAGE, None, None)
    assert shown == "a file (`examples/listen.py` in the repository), [a page](../concepts.md)"
