"""Reads offers and writes answers: the few lines of SDP that a call is made of (RFC 8866, RFC 8829, RFC 8839).

SDP is read by hand because an offer comes from a stranger: of everything in it a dozen attributes matter, each is
checked here, and what is wrong is named. Candidates are not even read: an ICE-lite agent learns where its peer is from
the peer's own checks (RFC 8445 section 2.5), and so never sends a packet to an address that a stranger wrote down.
"""

import enum
import re
from dataclasses import dataclass, field

from bridge.errors import BadOffer
from bridge.media.extensions import AUDIO_LEVEL_URI, MAX_ID, MAX_MID_BYTES, MID_URI
from bridge.wire.stats import CallWarning

__all__ = [
    "CNAME",
    "MAX_MESSAGE_BYTES",
    "MAX_SDP_BYTES",
    "MUX_ONLY",
    "OFFERED_OPUS",
    "AnswerParameters",
    "AudioSection",
    "Direction",
    "DtlsRole",
    "Fingerprint",
    "Media",
    "Offer",
    "OfferParameters",
    "SetupRole",
    "candidate_lines",
    "parse_offer",
    "parse_remote",
    "write_answer",
    "write_offer",
]

MAX_SDP_BYTES = 128 * 1024
MAX_MESSAGE_BYTES = 262_144
"""The length that we announce as ``a=max-message-size``; Chromium and aiortc announce the same."""
_DEFAULT_MAX_MESSAGE_BYTES = 65_536  # RFC 8841 section 6.1
CNAME = "bridge"
"""The name of our streams, in SDP and RTCP alike."""
MUX_ONLY = "rtcp-mux-only"
"""The attribute of a section whose RTCP comes with its RTP, and in no other way (RFC 8858)."""
OFFERED_OPUS = 111
"""The payload type of Opus in our own offers; the one that Chromium uses."""
_MAX_MEDIA = 16
_MAX_LINES = 4096  # in a whole description; Chromium's longest have a few hundred
_MAX_SECTION_LINES = 1024
_MAX_FINGERPRINTS = 16
_SCTP_PORT = 5000
_DIGEST_BYTES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}  # RFC 8122 section 5; SHA-1 no longer counts
_DIGEST = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})*")
# RFC 8839 section 5.4 has letters, digits, + and /; what clients really write has _, = and - as well.
_ICE_CHARS = re.compile(r"[!-~]{4,256}\Z")
_TOKEN = re.compile(r"[!#-'*+\-.0-9A-Z^-~]{1,64}\Z")  # RFC 8866 section 9: token
_MEDIA_LINE = re.compile(
    r"m=(?:(?:audio|video) [0-9]{1,5} [A-Z/]+(?: [0-9]{1,3})+|[a-z]+ [0-9]{1,5} [A-Z/]+(?: [\w.-]+)+)\s*\Z"
)
_MAX_FORMATS = 128
_OPUS = re.compile(r"opus/(?:8|12|16|24|48)000(?:/[12])?\Z", re.IGNORECASE)
_STRICT_OPUS = "opus/48000/2"  # RFC 7587 section 7, whatever the sound has
_PRINTABLE = re.compile(r"[ -~]*\Z")
_EXTENSIONS = (AUDIO_LEVEL_URI, MID_URI)


class Direction(enum.StrEnum):
    """The direction of a section's media, as its side says it (RFC 8866 section 6.7); the most useful one first."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        """Whether the side that says so sends."""
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        """Whether the side that says so receives."""
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @property
    def reverse(self) -> "Direction":
        """What the other side says of the same section."""
        return _REVERSE.get(self, self)


_REVERSE = {Direction.SENDONLY: Direction.RECVONLY, Direction.RECVONLY: Direction.SENDONLY}
_DIRECTIONS = {direction.value: direction for direction in Direction}
_BY_USE = tuple(Direction)


class SetupRole(enum.StrEnum):
    """Who begins the DTLS handshake, as ``a=setup`` has it (RFC 8842 section 5.1, RFC 4145 section 4)."""

    ACTPASS = "actpass"
    ACTIVE = "active"
    PASSIVE = "passive"


class DtlsRole(enum.StrEnum):
    """The role of one side in the DTLS handshake: the client begins it."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def setup(self) -> SetupRole:
        """What the side with this role says in its answer."""
        return SetupRole.ACTIVE if self is DtlsRole.CLIENT else SetupRole.PASSIVE

    @property
    def setup_of_peer(self) -> SetupRole:
        """Returns what the other side then is."""
        return SetupRole.PASSIVE if self is DtlsRole.CLIENT else SetupRole.ACTIVE


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The hash of a DTLS certificate, hexadecimal with colons (RFC 8122 section 5)."""

    algorithm: str
    value: str


@dataclass(slots=True, eq=False)
class Media:
    """One ``m=`` section: its line's words and its attributes, each name's values in order."""

    kind: str
    port: str
    protocol: str
    formats: tuple[str, ...]
    direction: Direction = Direction.SENDRECV
    """What the remote side does, unless the section says otherwise (RFC 8866 section 6.7)."""
    lines: int = 0
    _values: dict[str, list[str]] = field(default_factory=dict)

    def add_attribute(self, name: str, value: str) -> None:
        """Adds an attribute."""
        self.lines += 1
        if name in _DIRECTIONS and self._values.keys().isdisjoint(_DIRECTIONS):
            self.direction = _DIRECTIONS[name]
        self._values.setdefault(name, []).append(value)

    def value(self, name: str) -> str | None:
        """Returns the first value of attribute ``name``; None if it is absent."""
        values = self._values.get(name)
        return values[0] if values else None

    def values(self, name: str) -> list[str]:
        """Returns all values of attribute ``name``."""
        return self._values.get(name, [])

    def by_format(self, name: str) -> dict[str, str]:
        """Returns the first value of ``name`` for each payload type that the ``m=`` line has."""
        found: dict[str, str] = {}
        formats = set(self.formats)
        for value in self.values(name):
            payload_type, _, rest = value.partition(" ")
            if payload_type in formats:
                found.setdefault(payload_type, rest.strip())
        return found

    @property
    def is_rtp(self) -> bool:
        """Whether it carries sound or pictures."""
        return self.kind in ("audio", "video") and "RTP/" in self.protocol

    @property
    def is_rejected(self) -> bool:
        """Whether it is refused: port 0 outside of a bundle says so (RFC 8829 section 5.2.1)."""
        return self.port == "0" and "bundle-only" not in self._values

    @property
    def name(self) -> str:
        """The section's name, for people to read."""
        mid = self.value("mid")
        return f"{self.kind} section" if mid is None else f"{self.kind} section '{mid}'"


@dataclass(frozen=True, slots=True)
class AudioSection:
    """A section that offers Opus."""

    media: Media
    opus: int
    """The payload type of Opus."""
    encoding: str
    """The name of Opus in the section: ``opus/48000/2``, or what some clients write in its place."""
    red: int | None
    """The payload type of Opus with redundancy (RFC 2198)."""

    @property
    def mid(self) -> str:
        """The name of the section."""
        return self.media.value("mid") or ""

    @property
    def extensions(self) -> dict[str, int]:
        """The ids of those RTP header extensions that we know, by their URI (RFC 8285 section 5)."""
        found: dict[str, int] = {}
        for value in self.media.values("extmap"):
            number, _, uri = value.partition(" ")
            number = number.removesuffix("/sendrecv")
            is_usable = number.isdecimal() and len(number) < 3 and 0 < int(number) <= MAX_ID
            if is_usable and uri in _EXTENSIONS and int(number) not in found.values():
                found.setdefault(uri, int(number))
        if MID_URI in found and not 0 < len(self.mid) <= MAX_MID_BYTES:
            del found[MID_URI]
        return found

    @property
    def asks_again(self) -> bool:
        """Whether the remote side may ask for packets again (RFC 4585 section 4.2)."""
        wanted = (f"{self.opus} nack", "* nack")
        return any(value in wanted for value in self.media.values("rtcp-fb"))

    @property
    def opus_parameters(self) -> dict[str, str]:
        """The remote side's wishes for our Opus (RFC 7587 section 6.1)."""
        line = self.media.by_format("fmtp").get(str(self.opus), "")
        pairs = (part.partition("=") for part in line.split(";"))
        return {name.strip(): value.strip() for name, _, value in pairs}

    @property
    def max_bitrate(self) -> int | None:
        """The bits of Opus a second that the remote side takes, if it says so."""
        value = self.opus_parameters.get("maxaveragebitrate", "")
        return int(value) if value.isdecimal() and len(value) < 8 else None


@dataclass(frozen=True, slots=True)
class Offer:
    """What the remote description says that matters to a call."""

    media: list[Media]
    ice_ufrag: str
    ice_pwd: str
    fingerprints: tuple[Fingerprint, ...]
    setup: SetupRole
    is_ice_lite: bool
    origin: str
    """Who wrote the description: the same for all that one peer connection writes (RFC 8866 section 5.2)."""
    tls_id: str | None
    """The id of its DTLS association, if it says so (RFC 8842 section 4)."""
    bundle: tuple[str, ...]
    """The sections that share our one transport, by mid, as the remote side grouped them."""
    inbound: AudioSection | None
    """The section in which the remote side's sound comes."""
    outbound: AudioSection | None
    """The section in which our sound goes; it may be the same."""
    application: Media | None
    accepted: tuple[Media, ...]
    """The sections on our transport in the order of the bundle; those that are none of the above carry nothing."""
    sctp_port: int
    max_message_bytes: int
    warnings: tuple[CallWarning, ...]

    @property
    def audio(self) -> AudioSection | None:
        """A section with sound; None if only events come."""
        return self.inbound or self.outbound

    @property
    def opus_payload_type(self) -> int:
        """The payload type of the remote side's Opus; 0 if there is none."""
        return self.audio.opus if self.audio is not None else 0

    @property
    def candidates(self) -> list[str]:
        """The remote candidates; only those of an answer are of use."""
        return list(dict.fromkeys(value for media in self.accepted for value in media.values("candidate")))

    @property
    def sends_audio(self) -> bool:
        """Whether the remote side wants to be heard."""
        return self.inbound is not None and self.inbound.media.direction.sends

    @property
    def receives_audio(self) -> bool:
        """Whether the remote side wants to hear."""
        return self.outbound is not None and self.outbound.media.direction.receives


@dataclass(frozen=True, slots=True)
class AnswerParameters:
    """What our side of the answer says."""

    ice_ufrag: str
    ice_pwd: str
    fingerprint: Fingerprint
    addresses: tuple[str, ...]
    port: int
    ssrc: int
    setup: SetupRole = SetupRole.PASSIVE
    tcp_ports: tuple[int, ...] = ()
    """The ports of passive TCP candidates (RFC 6544), the preferred one first."""
    version: int = 1
    """The version of the answer, which goes up with each answer of one call (RFC 8866 section 5.2)."""


@dataclass(frozen=True, slots=True)
class OfferParameters:
    """What our offer says, for a call that we dial; ``candidates`` are written as their SDP lines have them."""

    ice_ufrag: str
    ice_pwd: str
    fingerprint: Fingerprint
    candidates: tuple[str, ...]
    ssrc: int


def parse_offer(body: bytes) -> Offer:
    """Returns the offer in an HTTP body; raises ``BadOffer`` naming what keeps a call from being made of it."""
    offer = parse_remote(body)
    if offer.is_ice_lite:
        raise BadOffer(
            "The offer has a=ice-lite, and so has the bridge: neither side would send connectivity checks.",
            param="ice-lite",
        )
    return offer


def parse_remote(body: bytes) -> Offer:
    """Returns a remote description, offer or answer; raises ``BadOffer`` naming the line that is missing or wrong."""
    if len(body) > MAX_SDP_BYTES:
        raise BadOffer(f"The SDP has {len(body)} bytes, over the limit of {MAX_SDP_BYTES}.", param="sdp")
    session, media = _sections(body)
    offered = [m for m in media if not m.is_rejected]
    sounds = {m: audio for m in offered if (audio := _audio(m)) is not None}
    by_use = sorted(sounds, key=lambda m: _BY_USE.index(m.direction))
    data = [m for m in offered if m.kind == "application" and "SCTP" in m.protocol]
    if not sounds:
        if any(m.kind == "audio" for m in offered):
            raise BadOffer(f"No audio section offers Opus (a=rtpmap:… {_STRICT_OPUS}).", param="rtpmap")
        if not data:
            raise BadOffer("The SDP has no audio and no data channel section (m=audio, m=application).", param="m")
    main = (by_use or data)[0]
    bundle = _bundle(session, main)
    inbound, outbound = _by_direction([m for m in by_use if m is main or m.value("mid") in bundle])
    used = [m for m in (inbound, outbound) if m is not None]
    application = next((m for m in data if m is main or m.value("mid") in bundle), None)
    accepted = [m for m in offered if m in used or m is application or (m.is_rtp and m.value("mid") in bundle)]
    place = {mid: at for at, mid in enumerate(bundle)}
    carriers = sorted(accepted, key=lambda m: place.get(m.value("mid") or "", 0))
    ice_ufrag, ice_pwd = _lookup(session, carriers, "ice-ufrag"), _lookup(session, carriers, "ice-pwd")
    if not ice_ufrag or not _ICE_CHARS.match(ice_ufrag):
        raise BadOffer("The SDP has no usable ICE user fragment (a=ice-ufrag).", param="ice-ufrag")
    if not ice_pwd or not _ICE_CHARS.match(ice_pwd):
        raise BadOffer("The SDP has no usable ICE password (a=ice-pwd).", param="ice-pwd")
    return Offer(
        media=media,
        ice_ufrag=ice_ufrag,
        ice_pwd=ice_pwd,
        fingerprints=_fingerprints(session, carriers),
        setup=_setup(session, carriers),
        is_ice_lite=session.value("ice-lite") is not None,
        origin=session.value("o=") or "",
        tls_id=_lookup(session, carriers, "tls-id"),
        bundle=bundle,
        inbound=sounds[inbound] if inbound is not None else None,
        outbound=sounds[outbound] if outbound is not None else None,
        application=application,
        accepted=tuple(carriers),
        sctp_port=_number(application, "sctp-port", _SCTP_PORT, least=1, most=65_535),
        max_message_bytes=_number(application, "max-message-size", _DEFAULT_MAX_MESSAGE_BYTES),
        warnings=_warnings(offered, [*used, application], has_bundle=bool(bundle)),
    )


def _by_direction(sounds: list[Media]) -> tuple[Media | None, Media | None]:
    """Returns the section in which the remote side speaks, and the one in which it hears.

    ``sounds`` has the most useful section first.
    """
    if not sounds:
        return None, None
    speaks = next((m for m in sounds if m.direction.sends), None)
    hears = next((m for m in sounds if m.direction.receives), None)
    if speaks is None and hears is None:
        return sounds[0], sounds[0]
    return speaks or hears, hears or speaks


def _warnings(offered: list[Media], used: list[Media | None], *, has_bundle: bool) -> tuple[CallWarning, ...]:
    """Returns what was offered and is not used, by name."""
    unused = [m for m in offered if m not in used and not (m.is_rtp and m.direction is Direction.INACTIVE)]
    if not unused:
        return ()
    names = ", ".join(m.name for m in unused)
    if not has_bundle:
        main = next(m.name for m in used if m is not None)
        message = f"The offer has no a=group:BUNDLE for its {main}: only that section is connected, not its {names}."
        return (CallWarning("no_bundle", message),)
    return (CallWarning("unused_sections", f"These parts of the offer are not used: {names}."),)


def write_answer(offer: Offer, ours: AnswerParameters) -> str:
    """Returns the answer.

    A section that the bridge has no use for is inactive if it is in the bundle, else it is rejected with port 0.
    Inactive costs nothing. Rejected sections have their lines, because some clients (aiortc) connect a transport of its
    own for each section outside of the bundle, and count as failed if that fails.
    """
    mids = [mid for m in offer.accepted if (mid := m.value("mid")) in offer.bundle]
    lines = ["v=0", f"o=- 1 {ours.version} IN IP4 0.0.0.0", "s=-", "t=0 0", "a=ice-lite", "a=msid-semantic: WMS bridge"]
    if mids:
        lines.insert(4, f"a=group:BUNDLE {' '.join(map(str, mids))}")
    for media in offer.media:
        mid = media.value("mid")
        is_accepted = media in offer.accepted
        audio = next((a for a in (offer.inbound, offer.outbound) if a is not None and a.media is media), None)
        formats = " ".join(media.formats if audio is None else _formats(audio))
        lines.append(f"m={media.kind} {9 if is_accepted else 0} {media.protocol} {formats}")
        lines.append("c=IN IP4 0.0.0.0")
        if mid:
            lines.append(f"a=mid:{mid}")
        if audio is not None:
            lines += _audio_lines(offer, audio, ours)
        elif media is offer.application:
            lines += _application_lines()
        else:
            lines += _unused_lines(media)
        lines += candidate_lines(ours) if is_accepted else []
        lines += _transport_lines(ours)
    return "\r\n".join(lines) + "\r\n"


def write_offer(ours: OfferParameters) -> str:
    """Returns an offer of audio both ways and a data channel, as a browser would make it."""
    transport = [
        *(f"a=candidate:{candidate}" for candidate in ours.candidates),
        "a=end-of-candidates",
        f"a=ice-ufrag:{ours.ice_ufrag}",
        f"a=ice-pwd:{ours.ice_pwd}",
        f"a=fingerprint:{ours.fingerprint.algorithm} {ours.fingerprint.value}",
        "a=setup:actpass",
    ]
    audio = [
        f"m=audio 9 UDP/TLS/RTP/SAVPF {OFFERED_OPUS}",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=sendrecv",
        "a=rtcp-mux",
        f"a=rtpmap:{OFFERED_OPUS} opus/48000/2",
        f"a=fmtp:{OFFERED_OPUS} minptime=10;useinbandfec=1",
        f"a=rtcp-fb:{OFFERED_OPUS} nack",
        *(f"a=extmap:{number} {uri}" for number, uri in enumerate(_EXTENSIONS, 1)),
        "a=msid:bridge audio",
        f"a=ssrc:{ours.ssrc} cname:{CNAME}",
        *transport,
    ]
    application = ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", "a=mid:1"]
    session = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=group:BUNDLE 0 1", "a=msid-semantic: WMS bridge"]
    return "\r\n".join([*session, *audio, *application, *_application_lines(), *transport]) + "\r\n"


def _formats(audio: AudioSection) -> list[str]:
    """Returns Opus and its redundancy in the order of the offer: the peer chooses which of the two is sent."""
    accepted = {str(audio.opus), str(audio.red)}
    return list(dict.fromkeys(payload_type for payload_type in audio.media.formats if payload_type in accepted))


def _audio_lines(offer: Offer, audio: AudioSection, ours: AnswerParameters) -> list[str]:
    opus = audio.opus
    direction = audio.media.direction.reverse
    if offer.inbound is not offer.outbound:
        direction = Direction.RECVONLY if audio is offer.inbound else Direction.SENDONLY
    lines = [
        f"a={direction}",
        *_mux_lines(audio.media),
        f"a=rtpmap:{opus} {audio.encoding}",
        f"a=fmtp:{opus} minptime=10;useinbandfec=1",
        "a=ptime:20",
    ]
    if (red := audio.red) is not None:
        lines += [f"a=rtpmap:{red} red/48000/2", f"a=fmtp:{red} {opus}/{opus}"]
    if audio.asks_again:
        lines.append(f"a=rtcp-fb:{opus} nack")
    lines += [f"a=extmap:{number} {uri}" for uri, number in audio.extensions.items()]
    if direction.sends:
        lines += ["a=msid:bridge audio", f"a=ssrc:{ours.ssrc} cname:{CNAME}"]
    return lines


def _unused_lines(media: Media) -> list[str]:
    """Returns the lines of a section that carries nothing.

    They name its own codecs, because some clients take an answer without a common codec for an error.
    """
    if not media.is_rtp:
        return ["a=inactive"]
    codecs = [
        f"a={name}:{payload_type} {value}"
        for name in ("rtpmap", "fmtp")
        for payload_type, value in media.by_format(name).items()
        if _PRINTABLE.match(value)
    ]
    return ["a=inactive", *_mux_lines(media), *codecs]


def _mux_lines(media: Media) -> list[str]:
    """Returns the lines that say that RTCP comes with RTP.

    A side that says that it can do nothing else is told the same (RFC 8858 section 3).
    """
    return ["a=rtcp-mux"] if media.value(MUX_ONLY) is None else ["a=rtcp-mux", f"a={MUX_ONLY}"]


def _application_lines() -> list[str]:
    return [f"a=sctp-port:{_SCTP_PORT}", f"a=max-message-size:{MAX_MESSAGE_BYTES}"]


def candidate_lines(ours: AnswerParameters) -> list[str]:
    """Returns the lines of all candidates at once, UDP first."""
    lines = [
        f"a=candidate:{index} 1 udp {_priority(index)} {address} {ours.port} typ host"
        for index, address in enumerate(ours.addresses, 1)
    ]
    over_tcp = [(address, port) for port in ours.tcp_ports for address in ours.addresses]
    lines += [
        f"a=candidate:{index} 1 tcp {_tcp_priority(index)} {address} {port} typ host tcptype passive"
        for index, (address, port) in enumerate(over_tcp, len(ours.addresses) + 1)
    ]
    return lines


def _transport_lines(ours: AnswerParameters) -> list[str]:
    """Returns the lines of ICE and DTLS.

    Ours is the passive role unless the peer wants it, so that the peer drives retransmissions.
    """
    return [
        "a=end-of-candidates",
        f"a=ice-ufrag:{ours.ice_ufrag}",
        f"a=ice-pwd:{ours.ice_pwd}",
        f"a=fingerprint:{ours.fingerprint.algorithm} {ours.fingerprint.value}",
        f"a=setup:{ours.setup}",
    ]


def _priority(index: int) -> int:
    """Returns the priority of a host candidate of component 1.

    Earlier addresses are preferred (RFC 8445 section 5.1.2.1).
    """
    return (126 << 24) + ((65_535 - index) << 8) + 255


def _tcp_priority(index: int) -> int:
    """Returns the priority of a passive candidate (RFC 6544 section 4.2).

    Its type preference is lower, so that it comes after every UDP candidate.
    """
    return (90 << 24) + ((4 << 13 | 8_191 - index) << 8) + 255


def _sections(body: bytes) -> tuple[Media, list[Media]]:
    """Returns the session's attributes and the media sections."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadOffer("The SDP is not UTF-8 text.", param="sdp") from None
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0].strip() != "v=0":
        raise BadOffer("The body is not SDP: it does not begin with v=0.", param="sdp")
    if len(lines) > _MAX_LINES:
        raise BadOffer(f"The SDP has {len(lines)} lines, over the limit of {_MAX_LINES}.", param="sdp")
    session = Media("session", "", "", ())
    media: list[Media] = []
    for line in lines[1:]:
        if line.startswith("m="):
            if not _MEDIA_LINE.match(line):
                raise BadOffer(f"Not a media line: {line[:80]!r}.", param="m")
            kind, port, protocol, *formats = line[2:].split()
            if "RTP/" in protocol and not all(map(_is_payload_type, formats)):
                raise BadOffer(f"A media line has invalid payload types: {line[:80]!r}.", param="m")
            if len(formats) > _MAX_FORMATS:
                raise BadOffer(f"A media line has {len(formats)} formats, over the limit of {_MAX_FORMATS}.", param="m")
            media.append(Media(kind, port, protocol, tuple(formats)))
            if len(media) > _MAX_MEDIA:
                raise BadOffer(f"The SDP has more media sections than the limit of {_MAX_MEDIA}.", param="m")
        elif line.startswith("a="):
            name, _, value = line[2:].partition(":")
            section = media[-1] if media else session
            section.add_attribute(name.strip(), value.strip())
            if section.lines > _MAX_SECTION_LINES:
                raise BadOffer(f"A section has more attributes than the limit of {_MAX_SECTION_LINES}.", param="a")
        elif line.startswith("o=") and not media:
            session.add_attribute("o=", " ".join(line[2:].split()[:2]))
    mids = [mid for section in media if (mid := section.value("mid")) is not None]
    if not all(map(_TOKEN.match, mids)):
        raise BadOffer("A media section has an unusable a=mid.", param="mid")
    if len(set(mids)) < len(mids):  # RFC 5888 section 4
        raise BadOffer("Two media sections have the same a=mid.", param="mid")
    return session, media


def _is_payload_type(text: str) -> bool:
    """Whether it has seven bits, and could not be mistaken for RTCP after the marker bit (RFC 5761 section 4)."""
    return text.isascii() and text.isdecimal() and len(text) <= 3 and int(text) < 128 and not 72 <= int(text) <= 76


def _lookup(session: Media, carriers: list[Media], name: str) -> str | None:
    """Returns an attribute of the transport, from the first section of the bundle that has it, or from the front."""
    return next((value for media in carriers if (value := media.value(name))), None) or session.value(name)


def _setup(session: Media, carriers: list[Media]) -> SetupRole:
    """Returns the role that the remote side asks for; if it names none, or an unknown one, the choice is ours."""
    try:
        return SetupRole(_lookup(session, carriers, "setup") or "")
    except ValueError:
        return SetupRole.ACTPASS


def _audio(media: Media) -> AudioSection | None:
    """Returns the section if it offers Opus; the name that the standard gives it counts first."""
    if media.kind != "audio":
        return None
    encodings = media.by_format("rtpmap")
    found = [payload_type for payload_type, encoding in encodings.items() if _OPUS.match(encoding)]
    if not found:
        return None
    opus = min(found, key=lambda payload_type: encodings[payload_type].lower() != _STRICT_OPUS)
    strict = encodings[opus].lower() == _STRICT_OPUS
    encoding = _STRICT_OPUS if strict else encodings[opus]
    return AudioSection(media, int(opus), encoding, _red(media, encodings, opus))


def _red(media: Media, encodings: dict[str, str], opus: str) -> int | None:
    """Returns the payload type of redundant audio, if nothing but Opus is in it."""
    contents = media.by_format("fmtp")
    for payload_type, encoding in encodings.items():
        if encoding.lower() == "red/48000/2" and payload_type != opus:
            if set(contents.get(payload_type, "").split("/")) == {opus}:
                return int(payload_type)
    return None


def _fingerprints(session: Media, carriers: list[Media]) -> tuple[Fingerprint, ...]:
    """Returns the fingerprints of the remote certificate.

    They are those of the section that the transport is, else those in front.
    """
    fingerprints: dict[Fingerprint, None] = {}
    for section in (*(m for m in carriers[:1]), session, *carriers[1:]):
        for value in section.values("fingerprint")[:_MAX_FINGERPRINTS]:
            algorithm, _, digest = value.partition(" ")
            algorithm, digest = algorithm.lower(), digest.strip()
            if len(digest) == 3 * _DIGEST_BYTES.get(algorithm, 0) - 1 and _DIGEST.fullmatch(digest):
                fingerprints[Fingerprint(algorithm, digest.upper())] = None
        if fingerprints and section is not carriers[0]:
            break
    if not fingerprints:
        raise BadOffer("The SDP has no usable certificate fingerprint (a=fingerprint:sha-256 …).", param="fingerprint")
    return tuple(fingerprints)


def _bundle(session: Media, carrier: Media) -> tuple[str, ...]:
    """Returns the mids of the group that ``carrier`` is in (RFC 8843).

    Without a group, every section wants its own transport.
    """
    for value in session.values("group"):
        mids = value.split()
        if mids[:1] == ["BUNDLE"] and carrier.value("mid") in mids[1:]:
            return tuple(mids[1:])
    return ()


def _number(media: Media | None, name: str, default: int, *, least: int = 0, most: int = 2**32) -> int:
    value = media.value(name) if media else None
    if value is None:
        return default
    if not value.isdecimal() or len(value) > 10 or not least <= int(value) <= most:
        raise BadOffer(f"a={name} is not a number from {least} to {most}: {value[:40]!r}.", param=name)
    return int(value)
