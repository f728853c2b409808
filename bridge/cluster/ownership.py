"""Who has a call, as the notes in Redis say."""

from dataclasses import dataclass

__all__ = ["Owner"]


@dataclass(frozen=True, slots=True)
class Owner:
    """The node that has a call, and how often the call has changed hands."""

    node_id: str
    epoch: int
