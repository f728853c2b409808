"""``bridge doctor``: examines settings, machine, and a running bridge, and says of each thing whether it is well."""

__all__: list[str] = []
