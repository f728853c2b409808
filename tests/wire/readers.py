"""The readers of what clients say, one for each dialect."""

from collections.abc import Callable

from bridge.wire.client_events import read_client_message
from bridge.wire.dialects import beta
from bridge.wire.live.client_events import LiveBearer, read_live_message
from bridge.wire.translations import read_translation_message

__all__ = ["READERS"]

READERS: list[Callable[[bytes | str], object]] = [
    read_client_message,
    lambda text: beta.read_client_message(text, beta.Beta()),
    read_translation_message,
    lambda text: read_live_message(text, LiveBearer.CHANNEL),
]
