"""How each protocol that clients speak is written and read. Inside the bridge, all events are GA's."""

__all__: list[str] = []
