"""The command ``bridge check``: what any Realtime endpoint does, row by row, beside what the protocol says.

A row (in ``rows``) is data: what is sent, what must come, and where that is written. ``runner`` plays each row on a
connection of its own. Every server event that comes on the way is compared with ``shapes``.
"""
