"""The table of examinations, in the order in which they are made: a new one is a function and its line here."""

from bridge.doctor.credentials import carriers, redis, upstreams
from bridge.doctor.findings import Examination
from bridge.doctor.machine import addresses, certificate, disk, files, ports, settings
from bridge.doctor.running import answers, clock, key, media, open_files, ready
from bridge.doctor.stages import stages
from bridge.doctor.workers import workers

__all__ = ["EXAMINATIONS"]

EXAMINATIONS = (
    Examination("settings", "whether a start would take them, and variables that look like settings", settings),
    Examination("ports", "whether each TCP and UDP port can be had, or a bridge has it already", ports),
    Examination("addresses", "which addresses peers are told to send media to", addresses),
    Examination("certificate", "how long it is valid", certificate),
    Examination("files", "how many files and sockets may be open, for `max_calls`", files),
    Examination("disk", "whether recordings can be written, and the free space", disk),
    Examination("upstreams", "whether each answers, and takes its key: it is asked for its models", upstreams),
    Examination("stages", "whether servers that think, hear and speak for engines do so, and how soon", stages),
    Examination("carriers", "whether the API takes the key: it is asked to end a call that nobody has", carriers),
    Examination("redis", "whether it answers and runs scripts, if `redis_url` is set", redis),
    Examination("answers", "whether the bridge answers at its URL", answers),
    Examination("ready", "what `/readyz` says", ready),
    Examination("key", "whether the API lets the key in", key),
    Examination("workers", "whether each has a core, and how many serve, if `workers` is set", workers),
    Examination("clock", "whether its clock is this machine's, by its `Date`", clock),
    Examination("media", "a call from here over WebRTC: UDP, ICE, DTLS, the data channel, what peers are told", media),
    Examination("open_files", "how many files it has open, by `/metrics`", open_files),
)
