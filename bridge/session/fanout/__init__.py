"""Fan-out: what is said in a call reaches all who listen, those who are slow and those who come back as well."""

__all__: list[str] = []
