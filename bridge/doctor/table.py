"""The table of examinations, in the order in which they are made: a new one is a function and its line here."""

from bridge.doctor.credentials import carriers, redis, upstreams
from bridge.doctor.findings import Examination
from bridge.doctor.machine import addresses, certificate, disk, files, ports, settings
from bridge.doctor.running import answers, clock, key, media, open_files, ready
from bridge.doctor.stages import stages
from bridge.doctor.workers import workers

__all__ = ["EXAMINATIONS"]

EXAMINATIONS = (
    Examination(
        "settings",
        "whether the daemon would start with them, and whether variables look like settings but are not",
        settings,
    ),
    Examination("ports", "whether each TCP and UDP port is free, or in use by a bridge", ports),
    Examination("addresses", "to which addresses peers send media", addresses),
    Examination("certificate", "how long the certificate is valid", certificate),
    Examination("files", "whether enough files and sockets may be open for `max_calls`", files),
    Examination("disk", "whether recordings can be written, and how much space is free", disk),
    Examination(
        "upstreams", "whether each upstream answers and accepts its key: it is asked for its models", upstreams
    ),
    Examination("stages", "whether the servers that hear, think and speak for engines work, and how fast", stages),
    Examination(
        "carriers",
        "whether each carrier's API accepts the key: it is asked to end a call that does not exist",
        carriers,
    ),
    Examination("redis", "if `redis_url` is set: whether Redis answers and runs scripts", redis),
    Examination("answers", "whether the bridge answers at its URL", answers),
    Examination("ready", "whether it would serve a new call, by `/readyz`", ready),
    Examination("key", "whether the API accepts the key", key),
    Examination("workers", "if `workers` is set: whether each has a core, and how many serve", workers),
    Examination("clock", "whether its clock agrees with this machine's, by its `Date` header", clock),
    Examination(
        "media",
        "a WebRTC call from here: UDP, ICE, DTLS, the data channel, and the addresses that peers are told",
        media,
    ),
    Examination("open_files", "how many files the bridge has open, by `/metrics`", open_files),
)
