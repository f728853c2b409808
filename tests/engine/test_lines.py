"""Lines of a body that comes in pieces."""

import pytest

from bridge.engine.lines import Lines


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_are_the_same_however_they_are_cut(size: int) -> None:
    """Each comes once it has ended; the last one has not."""
    body = b"data: one\n\ndata: two\r\nrest"
    lines = Lines()
    came = [line for at in range(0, len(body), size) for line in lines.add(body[at : at + size])]
    assert came == [b"data: one", b"", b"data: two\r"]
    assert lines.rest_bytes == 4
