"""``bridge check``: what any Realtime endpoint does, row by row, beside what the protocol says.

A row (``rows``, ``rows_http``) is data: what is sent, what must come, and where that is written. ``runner`` plays each
row on a connection of its own; every server event that comes on the way is held against ``shapes``.
"""
