"""``bridge serve --workers N``: a supervisor that runs several daemons on one machine as nodes of one cluster."""

__all__: list[str] = []
