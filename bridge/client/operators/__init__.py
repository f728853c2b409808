"""The commands for whoever runs a bridge: to list calls, see what is wrong with them, listen to one, and hang one
up.
"""

__all__: list[str] = []
