"""Commands for who runs a bridge: which calls there are, what is wrong with them, listening to one, hanging it up."""

__all__: list[str] = []
