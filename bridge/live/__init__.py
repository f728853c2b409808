"""Live clients: calls whose client speaks the Live protocol, while what answers speaks GA or Live."""

__all__: list[str] = []
