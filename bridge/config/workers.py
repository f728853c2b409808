"""The settings of one worker: those of all, with the ports and folders that each has to itself."""

from urllib.parse import urlsplit, urlunsplit

from msgspec.structs import replace

from bridge.config.config import Config

__all__ = ["settings_of_worker"]


def settings_of_worker(config: Config, number: int) -> Config:
    """Returns the settings of the worker with this number, which counts from 0.

    It has the UDP port ``number`` places behind that of the settings, and so have its port of media over TCP, and that
    of its ``node_url``. Its recordings are in the folder ``worker-0`` of ``record_dir`` (with its number). Media over
    TCP does not come to ``port``, where any worker may accept it. ``workers`` is 1: itself.
    """
    media, record_dir, node_url = config.media, config.recording.record_dir, config.cluster.node_url
    first = media.udp_port if media.udp_port is not None else config.server.port
    return replace(
        config,
        media=replace(
            media,
            udp_port=_nth(first, number),
            ice_tcp_port=None if media.ice_tcp_port is None else _nth(media.ice_tcp_port, number),
            ice_tcp_on_port=False,
        ),
        recording=replace(config.recording, record_dir=None if record_dir is None else f"{record_dir}/worker-{number}"),
        cluster=replace(config.cluster, workers=1, node_url=None if node_url is None else _nth_url(node_url, number)),
    )


def _nth(first: int, number: int) -> int:
    """Returns the port at this place; 0 picks a free one at each."""
    return first + number if first else 0


def _nth_url(url: str, number: int) -> str:
    parts = urlsplit(url)
    assert parts.port is not None, "checked with the settings"
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{parts.port + number}"))
