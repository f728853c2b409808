"""Live services as upstreams: sessions without turns, which clients of the Live protocol reach as they are."""

__all__: list[str] = []
