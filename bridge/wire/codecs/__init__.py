"""How each protocol that clients speak is written and read. Inside the bridge there are GA's events only."""

__all__: list[str] = []
