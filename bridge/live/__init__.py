"""Live clients: calls whose client speaks the Live protocol, while the session inside speaks GA."""

__all__: list[str] = []
