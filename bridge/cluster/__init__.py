"""Many processes as one: what they share in Redis, which of them has which call, and how they ask each other."""

__all__: list[str] = []
