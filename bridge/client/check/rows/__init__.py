"""All rows, as data, in the order in which they run."""

from bridge.client.check.rows import errors, http, items, limits, live, responses, session, turns, webrtc
from bridge.client.check.steps import Row

__all__ = ["ROWS"]

ROWS: tuple[Row, ...] = (
    *http.ROWS,
    *session.ROWS,
    *items.ROWS,
    *responses.ROWS,
    *turns.ROWS,
    *errors.ROWS,
    *limits.ROWS,
    *webrtc.ROWS,
    *live.ROWS,
)
